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
        source=lambda wildcards: study.datasets[wildcards.dataset].source,
        loader=lambda wildcards: study.datasets[wildcards.dataset].loader,
        urls=lambda wildcards: list(study.datasets[wildcards.dataset].urls),
        sha256=lambda wildcards: list(study.datasets[wildcards.dataset].sha256),
        classes=lambda wildcards: study.datasets[wildcards.dataset].classes,
        shape=lambda wildcards: study.datasets[wildcards.dataset].shape,
        counts=lambda wildcards: dict(study.datasets[wildcards.dataset].counts),
        path=lambda wildcards: study.datasets[wildcards.dataset].path,
        resize=lambda wildcards: study.datasets[wildcards.dataset].resize,
        crop=lambda wildcards: study.datasets[wildcards.dataset].crop,
        split=lambda wildcards: study.datasets[wildcards.dataset].split,
        images=lambda wildcards: study.datasets[wildcards.dataset].images,
        seed=study.seed,
    message:
        "Making the dataset {wildcards.dataset}"
    script:
        "../../scripts/make_dataset.py"


rule datasets:
    input:
        expand("results/datasets/{dataset}.parquet", dataset=study.datasets),
