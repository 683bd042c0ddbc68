# Records of the study of the frequency principle.


mapped = catalogue.module("frequency_principle").image


# All networks of an experiment in one job: they get the same images with waves.
rule map_sensitivity:
    input:
        dataset="results/datasets/{dataset}.parquet",
        models=lambda wildcards: mapped.model_files(run, wildcards),
    output:
        sensitivity="results/sensitivity/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/map_sensitivity/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/map_sensitivity/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("map_sensitivity"),
        identity=lambda wildcards: jobs.identity(run, "map_sensitivity", wildcards),
    message:
        "Adding waves to {wildcards.dataset} for {wildcards.model} and others, {wildcards.shard}"
    script:
        "../../scripts/map_sensitivity.py"


# All networks of an experiment in one job: each image is corrupted once.
rule evaluate_corruptions:
    input:
        dataset="results/datasets/{dataset}.parquet",
        models=lambda wildcards: mapped.corrupted_models(run, wildcards),
    output:
        corrupted="results/corruptions/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/evaluate_corruptions/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_corruptions/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_corruptions"),
        identity=lambda wildcards: jobs.identity(run, "evaluate_corruptions", wildcards),
    message:
        "Corrupting {wildcards.dataset} for {wildcards.model} and others, {wildcards.shard}"
    script:
        "../../scripts/evaluate_corruptions.py"
