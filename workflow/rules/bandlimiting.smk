# The study of "Bandlimiting Neural Networks Against Adversarial Attacks": records to artifacts.
claims = helpers.own_file(workflow.basedir, "workflow/claims/bandlimiting.yaml")


rule defense_rates:
    input:
        undefended=jobs.evaluation_files(study, "undefended"),
        adversarial=jobs.adversarial_files(study),
        defended=jobs.evaluation_files(study, "post_averaging"),
        code=code("defense_rates"),
    output:
        parquet="results/tables/bandlimiting/defense_rates.parquet",
        markdown="results/tables/bandlimiting/defense_rates.md",
        html=report(
            "results/tables/bandlimiting/defense_rates.html",
            category="2. Bandlimiting",
            labels={
                "artifact": "All rates",
                "shows": "every attack, epsilon, radius and K",
            },
            caption="../report/defense_rates.rst",
        ),
        latex="results/tables/bandlimiting/defense_rates.tex",
        csv="results/tables/bandlimiting/defense_rates.csv",
    log:
        "logs/defense_rates.log",
    benchmark:
        "results/benchmarks/defense_rates.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "defense_rates"),
    message:
        "Counting what the defence restores"
    script:
        "../../scripts/defense_rates.py"


rule table_1:
    input:
        rates="results/tables/bandlimiting/defense_rates.parquet",
        claims=claims,
        code=code("table_1"),
    output:
        parquet="results/tables/bandlimiting/table_1.parquet",
        markdown="results/tables/bandlimiting/table_1.md",
        html=report(
            "results/tables/bandlimiting/table_1.html",
            category="2. Bandlimiting",
            labels={"artifact": "Table 1", "shows": "defence rate by attack"},
            caption="../report/table_1.rst",
        ),
        latex="results/tables/bandlimiting/table_1.tex",
        csv="results/tables/bandlimiting/table_1.csv",
    log:
        "logs/table_1.log",
    benchmark:
        "results/benchmarks/table_1.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "table_1"),
    message:
        "Table 1: defence rate by attack"
    script:
        "../../scripts/table_1.py"


rule table_2:
    input:
        rates="results/tables/bandlimiting/defense_rates.parquet",
        claims=claims,
        code=code("table_2"),
    output:
        parquet="results/tables/bandlimiting/table_2.parquet",
        markdown="results/tables/bandlimiting/table_2.md",
        html=report(
            "results/tables/bandlimiting/table_2.html",
            category="2. Bandlimiting",
            labels={"artifact": "Table 2", "shows": "defence rate by directions K"},
            caption="../report/table_2.rst",
        ),
        latex="results/tables/bandlimiting/table_2.tex",
        csv="results/tables/bandlimiting/table_2.csv",
    log:
        "logs/table_2.log",
    benchmark:
        "results/benchmarks/table_2.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "table_2"),
    message:
        "Table 2: defence rate by number of directions"
    script:
        "../../scripts/table_2.py"


rule table_2_time:
    input:
        datasets=[f"results/datasets/{e.dataset}.parquet" for e in study.experiments],
        models=[f"results/models/{e.model}.safetensors" for e in study.experiments],
        claims=claims,
        code=code("table_2_time"),
    output:
        parquet="results/tables/bandlimiting/table_2_time.parquet",
        markdown="results/tables/bandlimiting/table_2_time.md",
        html=report(
            "results/tables/bandlimiting/table_2_time.html",
            category="2. Bandlimiting",
            labels={
                "artifact": "Table 2, time",
                "shows": "inference time by directions K",
            },
            caption="../report/table_2_time.rst",
        ),
        latex="results/tables/bandlimiting/table_2_time.tex",
        csv="results/tables/bandlimiting/table_2_time.csv",
    log:
        "logs/table_2_time.log",
    benchmark:
        "results/benchmarks/table_2_time.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=jobs.params(study, "table_2_time"),
    message:
        "Table 2: timing inference"
    script:
        "../../scripts/table_2_time.py"


rule table_samplers:
    input:
        evaluations=jobs.sampler_files(study),
        adversarial=jobs.sampler_adversarial_files(study),
        code=code("table_samplers"),
    output:
        parquet="results/tables/bandlimiting/table_samplers.parquet",
        markdown="results/tables/bandlimiting/table_samplers.md",
        html=report(
            "results/tables/bandlimiting/table_samplers.html",
            category="2. Bandlimiting",
            labels={
                "artifact": "Samplers",
                "shows": "random and boundary-directed directions",
            },
            caption="../report/table_samplers.rst",
        ),
        latex="results/tables/bandlimiting/table_samplers.tex",
        csv="results/tables/bandlimiting/table_samplers.csv",
    log:
        "logs/table_samplers.log",
    benchmark:
        "results/benchmarks/table_samplers.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "table_samplers"),
    message:
        "Comparing random and boundary-directed samplers"
    script:
        "../../scripts/table_samplers.py"


rule count_crossings:
    input:
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial="results/adversarial/{dataset}/{model}/{attack}/{shard}.parquet",
        code=code("count_crossings"),
    output:
        crossings="results/crossings/{dataset}/{model}/{attack}/{shard}.parquet",
    log:
        "logs/count_crossings/{dataset}/{model}/{attack}/{shard}.log",
    benchmark:
        "results/benchmarks/count_crossings/{dataset}/{model}/{attack}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "count_crossings", wildcards),
    message:
        "Counting hyperplanes crossed by {wildcards.attack} on {wildcards.dataset}"
    script:
        "../../scripts/count_crossings.py"


rule table_crossings:
    input:
        crossings=jobs.crossing_files(study),
        claims=claims,
        code=code("table_crossings"),
    output:
        parquet="results/tables/bandlimiting/table_crossings.parquet",
        markdown="results/tables/bandlimiting/table_crossings.md",
        html=report(
            "results/tables/bandlimiting/table_crossings.html",
            category="2. Bandlimiting",
            labels={"artifact": "Section 2.2", "shows": "hyperplanes crossed"},
            caption="../report/table_crossings.rst",
        ),
        latex="results/tables/bandlimiting/table_crossings.tex",
        csv="results/tables/bandlimiting/table_crossings.csv",
        layers="results/tables/bandlimiting/crossings_by_layer.parquet",
    log:
        "logs/table_crossings.log",
    benchmark:
        "results/benchmarks/table_crossings.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "table_crossings"),
    message:
        "Section 2.2: hyperplanes crossed"
    script:
        "../../scripts/table_crossings.py"


rule theory:
    input:
        claims=claims,
        code=code("theory"),
    output:
        parquet=expand(
            "results/tables/bandlimiting/{table}.parquet", table=jobs.THEORY_TABLES
        ),
        markdown=expand(
            "results/tables/bandlimiting/{table}.md", table=jobs.THEORY_TABLES
        ),
        html=[
            report(
                f"results/tables/bandlimiting/{table}.html",
                category="3. Bandlimiting, theory",
                labels=jobs.TABLE_LABELS[table],
                caption=f"../report/{table}.rst",
            )
            for table in jobs.THEORY_TABLES
        ],
        latex=expand(
            "results/tables/bandlimiting/{table}.tex", table=jobs.THEORY_TABLES
        ),
        csv=expand("results/tables/bandlimiting/{table}.csv", table=jobs.THEORY_TABLES),
    log:
        "logs/theory.log",
    benchmark:
        "results/benchmarks/theory.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "theory"),
    message:
        "Checking the theory by numbers"
    script:
        "../../scripts/theory.py"


rule linear_regions:
    input:
        code=code("linear_regions"),
    output:
        parts=expand(
            "results/theory/linear_regions_{part}.parquet", part=jobs.REGION_PARTS
        ),
    log:
        "logs/linear_regions.log",
    benchmark:
        "results/benchmarks/linear_regions.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "linear_regions"),
    message:
        "Cutting a plane by a trained network"
    script:
        "../../scripts/linear_regions.py"


rule figure_1:
    input:
        tables=expand(
            "results/theory/linear_regions_{part}.parquet", part=jobs.REGION_PARTS
        ),
        code=code("figure_1"),
    output:
        png=report(
            "results/figures/bandlimiting/figure_1.png",
            category="2. Bandlimiting",
            labels={"artifact": "Figure 1", "shows": "linear regions of a network"},
            caption="../report/figure_1.rst",
        ),
        pdf="results/figures/bandlimiting/figure_1.pdf",
        svg="results/figures/bandlimiting/figure_1.svg",
    log:
        "logs/figure_1.log",
    benchmark:
        "results/benchmarks/figure_1.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "figure_1"),
    message:
        "Figure 1: linear regions"
    script:
        "../../scripts/figure_1.py"


rule figure_2:
    input:
        rates="results/tables/bandlimiting/defense_rates.parquet",
        code=code("figure_2"),
    output:
        png=report(
            "results/figures/bandlimiting/figure_2.png",
            category="2. Bandlimiting",
            labels={"artifact": "Figure 2", "shows": "defence rate against radius"},
            caption="../report/figure_2.rst",
        ),
        pdf="results/figures/bandlimiting/figure_2.pdf",
        svg="results/figures/bandlimiting/figure_2.svg",
    log:
        "logs/figure_2.log",
    benchmark:
        "results/benchmarks/figure_2.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "figure_2"),
    message:
        "Figure 2: defence rate against radius"
    script:
        "../../scripts/figure_2.py"


rule figure_3:
    input:
        rates="results/tables/bandlimiting/defense_rates.parquet",
        code=code("figure_3"),
    output:
        png=report(
            "results/figures/bandlimiting/figure_3.png",
            category="2. Bandlimiting",
            labels={"artifact": "Figure 3", "shows": "defence rate against epsilon"},
            caption="../report/figure_3.rst",
        ),
        pdf="results/figures/bandlimiting/figure_3.pdf",
        svg="results/figures/bandlimiting/figure_3.svg",
    log:
        "logs/figure_3.log",
    benchmark:
        "results/benchmarks/figure_3.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "figure_3"),
    message:
        "Figure 3: defence rate against epsilon"
    script:
        "../../scripts/figure_3.py"


rule figure_response:
    input:
        response="results/tables/bandlimiting/sampler_response.parquet",
        code=code("figure_response"),
    output:
        png=report(
            "results/figures/bandlimiting/figure_response.png",
            category="3. Bandlimiting, theory",
            labels={
                "artifact": "Eq. 6",
                "shows": "response of the ball and of the sampler",
            },
            caption="../report/figure_response.rst",
        ),
        pdf="results/figures/bandlimiting/figure_response.pdf",
        svg="results/figures/bandlimiting/figure_response.svg",
    log:
        "logs/figure_response.log",
    benchmark:
        "results/benchmarks/figure_response.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    message:
        "Equation 6: response of the sampler that is really used"
    script:
        "../../scripts/figure_response.py"


rule figure_crossings:
    input:
        layers="results/tables/bandlimiting/crossings_by_layer.parquet",
        code=code("figure_crossings"),
    output:
        png=report(
            "results/figures/bandlimiting/figure_crossings.png",
            category="2. Bandlimiting",
            labels={
                "artifact": "Section 2.2",
                "shows": "hyperplanes crossed, layer by layer",
            },
            caption="../report/figure_crossings.rst",
        ),
        pdf="results/figures/bandlimiting/figure_crossings.pdf",
        svg="results/figures/bandlimiting/figure_crossings.svg",
    log:
        "logs/figure_crossings.log",
    benchmark:
        "results/benchmarks/figure_crossings.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    message:
        "Section 2.2: hyperplanes crossed, layer by layer"
    script:
        "../../scripts/figure_crossings.py"


rule bandlimiting:
    input:
        expand(
            "results/tables/bandlimiting/{table}.{form}",
            table=jobs.tables(study),
            form=["parquet", "md", "html", "tex", "csv"],
        ),
        expand(
            "results/figures/bandlimiting/{figure}.{form}",
            figure=jobs.figures(study),
            form=["png", "pdf", "svg"],
        ),
