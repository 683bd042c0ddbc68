# What a model says of clean images; a model that is not as accurate as stated ends the run here.
rule evaluate_undefended:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
    output:
        evaluation="results/evaluations/{dataset}/{model}/clean/undefended/{shard}.parquet",
    log:
        "logs/evaluate_undefended/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_undefended/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_undefended"),
        identity=lambda wildcards: jobs.identity(run, "evaluate_undefended", wildcards),
    message:
        "Evaluating {wildcards.model} on {wildcards.dataset}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_undefended.py"
