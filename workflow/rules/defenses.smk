# One job evaluates one set of inputs with one defence, at all radii and numbers of directions.
rule evaluate_undefended:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        code=code("evaluate_undefended"),
    output:
        evaluation="results/evaluations/{dataset}/{model}/clean/undefended/{shard}.parquet",
    log:
        "logs/evaluate_undefended/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_undefended/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "evaluate_undefended", wildcards),
    message:
        "Evaluating {wildcards.model} on {wildcards.dataset}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_undefended.py"


rule evaluate_post_averaging:
    input:
        images=lambda wildcards: jobs.images_of(wildcards),
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: jobs.gate_files(study, wildcards.model),
        code=code("evaluate_post_averaging"),
    output:
        evaluation="results/evaluations/{dataset}/{model}/{inputs}/post_averaging/{shard}.parquet",
    log:
        "logs/evaluate_post_averaging/{dataset}/{model}/{inputs}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_post_averaging/{dataset}/{model}/{inputs}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "evaluate_post_averaging", wildcards),
    message:
        "Post-averaging {wildcards.model} on {wildcards.dataset}: {wildcards.inputs}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_post_averaging.py"


rule evaluate_samplers:
    input:
        images=lambda wildcards: jobs.images_of(wildcards),
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: jobs.gate_files(study, wildcards.model),
        code=code("evaluate_samplers"),
    output:
        evaluation="results/evaluations/{dataset}/{model}/{inputs}/samplers/{shard}.parquet",
    log:
        "logs/evaluate_samplers/{dataset}/{model}/{inputs}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_samplers/{dataset}/{model}/{inputs}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "evaluate_samplers", wildcards),
    message:
        "Comparing samplers for {wildcards.model} on {wildcards.dataset}: {wildcards.inputs}"
    script:
        "../../scripts/evaluate_samplers.py"
