# Each claim beside what was measured: reproduced, not reproduced, contradicted, or not run.
rule evaluate_claims:
    input:
        tables=[f"results/{table}.parquet" for table in jobs.table_names(study)],
        figures=[path for _, path in jobs.claim_figures(study)],
        claims=helpers.claims_files(study, workflow.basedir),
        schema=helpers.own_file(workflow.basedir, "workflow/schemas/claims.schema.yaml"),
        page=helpers.own_file(workflow.basedir, "bandlimit/templates/ledger.html.j2"),
        code=code("evaluate_claims"),
    output:
        parquet="results/claims/claims.parquet",
        markdown="results/claims/claims.md",
        html=report(
            "results/claims/claims.html",
            category="1. Ledger of claims",
            labels={"artifact": "Ledger", "shows": "the verdict on each claim"},
            caption="../report/evaluate_claims.rst",
        ),
    log:
        "logs/evaluate_claims.log",
    benchmark:
        "results/benchmarks/evaluate_claims.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "evaluate_claims"),
    message:
        "Asking each claim of the tables"
    script:
        "../../scripts/evaluate_claims.py"


rule claims:
    input:
        rules.evaluate_claims.output,
