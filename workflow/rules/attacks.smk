# One job attacks one shard of a dataset with one attack, at all its epsilons.
rule attack:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: jobs.gate_files(study, wildcards.model),
        code=code("attack"),
    output:
        adversarial="results/adversarial/{dataset}/{model}/{attack}/{shard}.parquet",
    log:
        "logs/attack/{dataset}/{model}/{attack}/{shard}.log",
    benchmark:
        "results/benchmarks/attack/{dataset}/{model}/{attack}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "attack", wildcards),
    message:
        "Attacking {wildcards.model} on {wildcards.dataset} by {wildcards.attack}, {wildcards.shard}"
    script:
        "../../scripts/attack.py"


rule adversarial:
    input:
        jobs.adversarial_files(study),
