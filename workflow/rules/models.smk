# Weights are fetched once, verified, and turned into safetensors; one model is trained here.
rule download_weights:
    output:
        weights="results/models/downloads/{model}.weights",
    log:
        "logs/download_weights/{model}.log",
    localrule: True
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
        model=jobs.closed(
            run.models, lambda model: model.source not in ("trained", "checkpoint")
        ),
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("convert_model"),
        identity=lambda wildcards: jobs.identity(run, "convert_model", wildcards),
    message:
        "Converting {wildcards.model}"
    script:
        "../../scripts/convert_model.py"


# One job makes all networks of a recipe, its checkpoints, and what is measured along the way. Recipes differ in what they keep,
# and outputs can't: those that keep the same share a rule. The wildcard has a name of its own: Snakemake
# would take that of a job which reads a checkpoint for that of the job which makes it.
for number, kept in enumerate(jobs.trainings(run)):

    rule:
        name:
            f"train_model_{number + 1}" if number else "train_model"
        input:
            unpack(lambda wildcards: paths.training_files(run, wildcards.trained)),
        output:
            **kept.outputs(),
            model="results/models/{trained}.safetensors",
            history="results/models/{trained}_history.parquet",
        log:
            "logs/train_model/{trained}.log",
        benchmark:
            "results/benchmarks/train_model/{trained}.tsv"
        wildcard_constraints:
            trained="|".join(kept.models),
        # All attacks on the model wait for it: it starts first, on one core, beside other jobs.
        priority: 10
        conda:
            "../../envs/bandlimit.yaml"
        resources:
            gpu=helpers.gpus(run),
        params:
            **code("train_model"),
            rule="train_model",
            identity=lambda wildcards: jobs.identity(run, "train_model", wildcards),
        message:
            "Training {wildcards.trained}"
        script:
            "../../scripts/train_model.py"


rule models:
    input:
        expand("results/models/{model}.safetensors", model=run.models),
