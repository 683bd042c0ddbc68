# Images, whatever they came as, become one Parquet file each.
rule make_dataset:
    input:
        lambda wildcards: helpers.local_files(study.datasets[wildcards.dataset]),
        code=code("make_dataset"),
    output:
        dataset="results/datasets/{dataset}.parquet",
    log:
        "logs/make_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/make_dataset/{dataset}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=lambda wildcards: helpers.dataset_params(study, wildcards.dataset),
    message:
        "Making the dataset {wildcards.dataset}"
    script:
        "../../scripts/make_dataset.py"


rule datasets:
    input:
        expand("results/datasets/{dataset}.parquet", dataset=study.datasets),
