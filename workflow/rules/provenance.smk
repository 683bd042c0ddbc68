# What shows and proves a run: a site and the front page of Snakemake's report, a list of all files
# under one hash, and a research object.
rule static_site:
    input:
        unpack(lambda wildcards: jobs.site_files(run)),
        claims="results/claims/claims.parquet",
        ledger="results/claims/claims.html",
        documents=helpers.own_files(catalogue.claims_files(run), workflow.basedir),
        artifacts=jobs.site_artifacts(run),
        defenses=catalogue.pages(run),
        undefended=jobs.clean_files(run),
        registries=helpers.matching("workflow/registry/*.csv", workflow.basedir),
        captions=helpers.own_files(
            [path for entry in entries for path in entry.captions()], workflow.basedir
        ),
        pages=helpers.matching("bandlimit/site/templates/*", workflow.basedir),
        report=helpers.own_file("workflow/report/workflow.rst", workflow.basedir),
    output:
        index="results/index.html",
        report="results/report.rst",
        pages=directory("results/site"),
    log:
        "logs/static_site.log",
    benchmark:
        "results/benchmarks/static_site.tsv"
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("static_site"),
        identity=jobs.identity(run, "static_site"),
    message:
        "Writing the site of the results"
    script:
        "../../scripts/static_site.py"


rule manifest:
    input:
        artifacts=[
            *jobs.site_artifacts(run),
            *catalogue.pages(run),
            *rules.claims.input,
            *rules.static_site.output,
        ],
    output:
        manifest="results/provenance/manifest.json",
    log:
        "logs/manifest.log",
    benchmark:
        "results/benchmarks/manifest.tsv"
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("manifest"),
        identity=jobs.identity(run, "manifest"),
    message:
        "Listing every file of the run"
    script:
        "../../scripts/manifest.py"


rule ro_crate:
    input:
        manifest="results/provenance/manifest.json",
        sources=helpers.research_object(workflow.basedir),
    output:
        crate=directory("results/provenance/ro-crate"),
        zip="results/provenance/ro-crate.zip",
    log:
        "logs/ro_crate.log",
    benchmark:
        "results/benchmarks/ro_crate.tsv"
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("ro_crate"),
        identity={
            **jobs.identity(run, "ro_crate"),
            "benchmarks": helpers.benchmarks(workflow),
        },
    message:
        "Describing the run as a research object"
    script:
        "../../scripts/ro_crate.py"


rule provenance:
    input:
        rules.static_site.output,
        rules.manifest.output,
        rules.ro_crate.output,
