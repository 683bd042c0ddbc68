# Weights are fetched once, verified, and turned into safetensors; one model is trained here.
rule download_weights:
    output:
        weights="results/models/downloads/{model}.weights",
    log:
        "logs/download_weights/{model}.log",
    conda:
        "../../envs/bandlimit.yaml"
    params:
        identity=lambda wildcards: jobs.identity(run, "download_weights", wildcards),
    message:
        "Fetching the weights of {wildcards.model}"
    script:
        "../../scripts/download_weights.py"


rule convert_model:
    input:
        unpack(lambda wildcards: paths.weights_file(run, wildcards.model)),
    output:
        model="results/models/{model}.safetensors",
    log:
        "logs/convert_model/{model}.log",
    benchmark:
        "results/benchmarks/convert_model/{model}.tsv"
    wildcard_constraints:
        model=jobs.closed(run.models, lambda model: model.source != "trained"),
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("convert_model"),
        identity=lambda wildcards: jobs.identity(run, "convert_model", wildcards),
    message:
        "Converting {wildcards.model}"
    script:
        "../../scripts/convert_model.py"


rule train_model:
    input:
        dataset=lambda wildcards: f"results/datasets/{run.training[wildcards.model]['dataset']}.parquet",
    output:
        model="results/models/{model}.safetensors",
        history="results/models/{model}_history.parquet",
    log:
        "logs/train_model/{model}.log",
    benchmark:
        "results/benchmarks/train_model/{model}.tsv"
    wildcard_constraints:
        model=jobs.closed(run.models, lambda model: model.source == "trained"),
    # All attacks on the model wait for it: it starts first, on one core, beside other jobs.
    priority: 10
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("train_model"),
        identity=lambda wildcards: jobs.identity(run, "train_model", wildcards),
    message:
        "Training {wildcards.model}"
    script:
        "../../scripts/train_model.py"


rule models:
    input:
        expand("results/models/{model}.safetensors", model=run.models),
