# Records of the study of "Bandlimiting Neural Networks Against Adversarial Attacks".


rule evaluate_post_averaging:
    input:
        images=lambda wildcards: paths.images_of(wildcards),
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: paths.gate_files(run, wildcards.model),
    output:
        evaluation="results/evaluations/{dataset}/{model}/{inputs}/post_averaging/{shard}.parquet",
    log:
        "logs/evaluate_post_averaging/{dataset}/{model}/{inputs}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_post_averaging/{dataset}/{model}/{inputs}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_post_averaging"),
        identity=lambda wildcards: jobs.identity(
            run, "evaluate_post_averaging", wildcards
        ),
    message:
        "Post-averaging {wildcards.model} on {wildcards.dataset}: {wildcards.inputs}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_post_averaging.py"


rule evaluate_samplers:
    input:
        images=lambda wildcards: paths.images_of(wildcards),
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: paths.gate_files(run, wildcards.model),
    output:
        evaluation="results/evaluations/{dataset}/{model}/{inputs}/samplers/{shard}.parquet",
    log:
        "logs/evaluate_samplers/{dataset}/{model}/{inputs}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_samplers/{dataset}/{model}/{inputs}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_samplers"),
        identity=lambda wildcards: jobs.identity(run, "evaluate_samplers", wildcards),
    message:
        "Comparing samplers for {wildcards.model} on {wildcards.dataset}: {wildcards.inputs}"
    script:
        "../../scripts/evaluate_samplers.py"


rule count_crossings:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial="results/adversarial/{dataset}/{model}/{attack}/{shard}.parquet",
    output:
        crossings="results/crossings/{dataset}/{model}/{attack}/{shard}.parquet",
    log:
        "logs/count_crossings/{dataset}/{model}/{attack}/{shard}.log",
    benchmark:
        "results/benchmarks/count_crossings/{dataset}/{model}/{attack}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("count_crossings"),
        identity=lambda wildcards: jobs.identity(run, "count_crossings", wildcards),
    message:
        "Counting hyperplanes crossed by {wildcards.attack} on {wildcards.dataset}"
    script:
        "../../scripts/count_crossings.py"


rule linear_regions:
    output:
        parts=catalogue.module("bandlimiting").region_files(run),
    log:
        "logs/linear_regions.log",
    benchmark:
        "results/benchmarks/linear_regions.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("linear_regions"),
        identity=jobs.identity(run, "linear_regions"),
    message:
        "Cutting a plane by a trained network"
    script:
        "../../scripts/linear_regions.py"
