# Records of the study of "A Frequency Domain Analysis of Gradient-Based Adversarial Examples".


measured = catalogue.module("perturbation_spectra")


# One job perturbs the images of a shard in all ways, and takes their spectra.
rule measure_spectra:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: paths.gate_files(run, wildcards.model),
    output:
        perturbations="results/perturbations/{dataset}/{model}/{shard}.parquet",
        spectra="results/spectra/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/measure_spectra/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/measure_spectra/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("measure_spectra"),
        identity=lambda wildcards: jobs.identity(run, "measure_spectra", wildcards),
    message:
        "Perturbing {wildcards.dataset} along gradients of {wildcards.model}, {wildcards.shard}"
    script:
        "../../scripts/measure_spectra.py"


rule average_spectra:
    input:
        dataset="results/datasets/{dataset}.parquet",
        perturbations=lambda wildcards: measured.perturbation_files(run, wildcards),
    output:
        maps="results/spectrum_maps/{dataset}/{model}.parquet",
    log:
        "logs/average_spectra/{dataset}/{model}.log",
    benchmark:
        "results/benchmarks/average_spectra/{dataset}/{model}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("average_spectra"),
        identity=lambda wildcards: jobs.identity(run, "average_spectra", wildcards),
    message:
        "Averaging spectra of {wildcards.model} on {wildcards.dataset}"
    script:
        "../../scripts/average_spectra.py"


rule evaluate_low_pass:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial="results/perturbations/{dataset}/{model}/{shard}.parquet",
    output:
        filtered="results/low_pass/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/evaluate_low_pass/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_low_pass/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_low_pass"),
        identity=lambda wildcards: jobs.identity(run, "evaluate_low_pass", wildcards),
    message:
        "Filtering what {wildcards.model} sees of {wildcards.dataset}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_low_pass.py"
