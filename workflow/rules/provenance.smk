# What shows and proves a run: a site, a list of all files under one hash, and a research object.
rule static_site:
    input:
        unpack(lambda wildcards: jobs.site_files(study)),
        claims="results/claims/claims.parquet",
        ledger="results/claims/claims.html",
        documents=helpers.claims_files(study, workflow.basedir),
        tables=expand(
            "results/{table}.{form}",
            table=jobs.table_names(study),
            form=["parquet", "md", "html", "tex", "csv"],
        ),
        figures=expand(
            "{figure}.{form}",
            figure=jobs.site_figures(study),
            form=["png", "pdf", "svg"],
        ),
        registries=helpers.own_files(workflow.basedir, "workflow/registry/*.csv"),
        captions=helpers.own_files(workflow.basedir, "workflow/report/*.rst"),
        pages=helpers.own_files(workflow.basedir, "bandlimit/templates/site/*"),
        code=code("static_site"),
    output:
        index="results/index.html",
        pages=directory("results/site"),
    log:
        "logs/static_site.log",
    benchmark:
        "results/benchmarks/static_site.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "static_site"),
    message:
        "Writing the site of the results"
    script:
        "../../scripts/static_site.py"


rule manifest:
    input:
        artifacts=[
            *rules.bandlimiting.input,
            *rules.robustness.input,
            *rules.claims.input,
            *rules.static_site.output,
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
    message:
        "Describing the run as a research object"
    script:
        "../../scripts/ro_crate.py"


rule provenance:
    input:
        rules.static_site.output,
        rules.manifest.output,
        rules.ro_crate.output,
