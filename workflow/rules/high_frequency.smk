# Records of the study of "High-frequency Component Helps Explain the Generalization of CNNs".


learnt = catalogue.module("high_frequency")


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


rule download_detector:
    output:
        weights="results/models/downloads/retinanet_resnet50_fpn.weights",
    log:
        "logs/download_detector.log",
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        identity=lambda wildcards: jobs.identity(run, "download_detector", wildcards),
    message:
        "Fetching the weights of the detector"
    script:
        "../../scripts/download_detector.py"


# A component each, so that another radius leaves whole images as they are.
rule detect_objects:
    input:
        unpack(lambda wildcards: learnt.detection_files(run)),
        weights=lambda wildcards: learnt.detector_weights(run),
    output:
        detections="results/detections/{component}.parquet",
    log:
        "logs/detect_objects/{component}.log",
    benchmark:
        "results/benchmarks/detect_objects/{component}.tsv"
    wildcard_constraints:
        component="full|low|high",
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("detect_objects"),
        identity=lambda wildcards: jobs.identity(run, "detect_objects", wildcards),
    message:
        "Detecting objects in images of COCO, {wildcards.component}"
    script:
        "../../scripts/detect_objects.py"
