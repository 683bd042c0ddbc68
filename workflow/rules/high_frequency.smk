# Records of the study of "High-frequency Component Helps Explain the Generalization of CNNs".


# Frequencies and singular values of each image, shown to one network.
rule evaluate_components:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
    output:
        components="results/components/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/evaluate_components/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_components/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_components"),
        identity=lambda wildcards: jobs.identity(run, "evaluate_components", wildcards),
    message:
        "Showing {wildcards.model} parts of {wildcards.dataset}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_components.py"


rule evaluate_smoothing:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
    output:
        smoothed="results/smoothed_kernels/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/evaluate_smoothing/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_smoothing/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_smoothing"),
        identity=lambda wildcards: jobs.identity(run, "evaluate_smoothing", wildcards),
    message:
        "Smoothing kernels of {wildcards.model}, {wildcards.shard} of {wildcards.dataset}"
    script:
        "../../scripts/evaluate_smoothing.py"
