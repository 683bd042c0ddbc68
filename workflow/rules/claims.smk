# Each claim asked twice: in substance, of every network, and as reported, of the document's own.
rule evaluate_claims:
    input:
        tables=[f"results/{table}.parquet" for table in catalogue.table_names(run)],
        figures=[path for _, path in catalogue.pictures(run)],
        undefended=jobs.clean_files(run),
        claims=helpers.own_files(catalogue.claims_files(run), workflow.basedir),
        schema=helpers.own_file("workflow/schemas/claims.schema.yaml", workflow.basedir),
        page=helpers.own_file("bandlimit/claims/ledger.html.j2", workflow.basedir),
    output:
        parquet="results/claims/claims.parquet",
        markdown="results/claims/claims.md",
        html=report(
            "results/claims/claims.html",
            category="1. Ledger of claims",
            labels={"artifact": "Ledger", "shows": "the verdicts on each claim"},
            caption="../report/evaluate_claims.rst",
        ),
    log:
        "logs/evaluate_claims.log",
    benchmark:
        "results/benchmarks/evaluate_claims.tsv"
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("evaluate_claims"),
        identity=jobs.identity(run, "evaluate_claims"),
    message:
        "Asking each claim of the tables"
    script:
        "../../scripts/evaluate_claims.py"


rule claims:
    input:
        rules.evaluate_claims.output,
