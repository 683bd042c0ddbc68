# What proves a run: a list of all its files under one hash, and a research object made of it.
rule manifest:
    input:
        artifacts=[
            *rules.bandlimiting.input,
            *rules.robustness.input,
            *rules.claims.input,
        ],
        code=code("manifest"),
    output:
        manifest="results/provenance/manifest.json",
    log:
        "logs/manifest.log",
    benchmark:
        "results/benchmarks/manifest.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    message:
        "Listing every file of the run"
    script:
        "../../scripts/manifest.py"


rule ro_crate:
    input:
        manifest="results/provenance/manifest.json",
        sources=helpers.research_object(workflow.basedir),
        code=code("ro_crate"),
    output:
        crate=directory("results/provenance/ro-crate"),
        zip="results/provenance/ro-crate.zip",
    log:
        "logs/ro_crate.log",
    benchmark:
        "results/benchmarks/ro_crate.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "ro_crate"),
    message:
        "Describing the run as a research object"
    script:
        "../../scripts/ro_crate.py"


rule provenance:
    input:
        rules.manifest.output,
        rules.ro_crate.output,
