# Images, whatever they came as, become one Parquet file each.
rule download_dataset:
    output:
        archive=directory("results/datasets/downloads/{source}"),
    log:
        "logs/download_dataset/{source}.log",
    wildcard_constraints:
        source="|".join(paths.downloaded_sources(run) or ["(?!)"]),
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        identity=lambda wildcards: jobs.identity(run, "download_dataset", wildcards),
    message:
        "Fetching {wildcards.source}"
    script:
        "../../scripts/download_dataset.py"


rule make_dataset:
    input:
        unpack(lambda wildcards: paths.source_files(run.datasets[wildcards.dataset])),
    output:
        dataset="results/datasets/{dataset}.parquet",
    log:
        "logs/make_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/make_dataset/{dataset}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("make_dataset"),
        identity=lambda wildcards: jobs.identity(run, "make_dataset", wildcards),
    message:
        "Making the dataset {wildcards.dataset}"
    script:
        "../../scripts/make_dataset.py"


rule datasets:
    input:
        expand("results/datasets/{dataset}.parquet", dataset=run.datasets),


# All that a run needs of the network, for machines whose compute nodes have none.
rule fetch:
    input:
        paths.fetched_files(run),
