# One job attacks one shard of a dataset with one attack, at all its epsilons.
rule attack:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: paths.gate_files(run, wildcards.model),
    output:
        adversarial="results/adversarial/{dataset}/{model}/{attack}/{shard}.parquet",
    log:
        "logs/attack/{dataset}/{model}/{attack}/{shard}.log",
    benchmark:
        "results/benchmarks/attack/{dataset}/{model}/{attack}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("attack"),
        identity=lambda wildcards: jobs.identity(run, "attack", wildcards),
    message:
        "Attacking {wildcards.model} on {wildcards.dataset} by {wildcards.attack}, {wildcards.shard}"
    script:
        "../../scripts/attack.py"


rule adversarial:
    input:
        paths.adversarial_files(run.experiments.values()),
