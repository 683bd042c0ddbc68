# What the documents leave out: attacks that know the defence, controls, and whether an attack's
# failure can be trusted.
rule attack_defense:
    input:
        unpack(lambda wildcards: jobs.other_models(study, [wildcards.examined])),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: jobs.gate_files(study, wildcards.model),
        code=code("attack_defense"),
    output:
        adversarial="results/adaptive/{dataset}/{model}/{examined}/{adaptive}/{shard}.parquet",
    log:
        "logs/attack_defense/{dataset}/{model}/{examined}/{adaptive}/{shard}.log",
    benchmark:
        "results/benchmarks/attack_defense/{dataset}/{model}/{examined}/{adaptive}/{shard}.tsv"
    # The longest chain of jobs begins early, beside others, not alone at the end.
    priority: 5
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "attack_defense", wildcards),
    message:
        "Attacking {wildcards.examined} of {wildcards.model} by {wildcards.adaptive}, {wildcards.shard}"
    script:
        "../../scripts/attack_defense.py"


rule judge_defense:
    input:
        unpack(lambda wildcards: jobs.other_models(study, [wildcards.examined])),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial=lambda wildcards: jobs.judged_files(study, wildcards),
        code=code("judge_defense"),
    output:
        judged="results/judged/{dataset}/{model}/{examined}/{shard}.parquet",
        symptoms="results/symptoms/{dataset}/{model}/{examined}/{shard}.parquet",
    log:
        "logs/judge_defense/{dataset}/{model}/{examined}/{shard}.log",
    benchmark:
        "results/benchmarks/judge_defense/{dataset}/{model}/{examined}/{shard}.tsv"
    priority: 6
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "judge_defense", wildcards),
    message:
        "Judging {wildcards.examined} of {wildcards.model} on fresh draws, {wildcards.shard}"
    script:
        "../../scripts/judge_defense.py"


rule evaluate_controls:
    input:
        unpack(
            lambda wildcards: jobs.other_models(
                study, jobs.examination(study, wildcards).controls
            )
        ),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial=lambda wildcards: jobs.attacked_files(study, wildcards),
        code=code("evaluate_controls"),
    output:
        controls="results/controls/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/evaluate_controls/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_controls/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "evaluate_controls", wildcards),
    message:
        "Comparing controls with the defence of {wildcards.model}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_controls.py"


rule scale_perturbations:
    input:
        unpack(
            lambda wildcards: jobs.other_models(
                study, jobs.scaled_defenses(study, wildcards)
            )
        ),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial=lambda wildcards: jobs.scaled_files(study, wildcards),
        code=code("scale_perturbations"),
    output:
        scaled="results/scaled/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/scale_perturbations/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/scale_perturbations/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(study),
    params:
        named=lambda wildcards: jobs.params(study, "scale_perturbations", wildcards),
    message:
        "Stretching minimal perturbations of {wildcards.model}, {wildcards.shard}"
    script:
        "../../scripts/scale_perturbations.py"


rule robustness_tables:
    input:
        adaptive=jobs.adaptive_files(study),
        judged=jobs.study_files(study, "judged"),
        symptoms=jobs.study_files(study, "symptoms"),
        controls=jobs.study_files(study, "controls"),
        scaled=jobs.study_files(study, "scaled"),
        code=code("robustness_tables"),
    output:
        parquet=expand(
            "results/tables/robustness/{table}.parquet",
            table=jobs.robustness_table_names(study),
        ),
        markdown=expand(
            "results/tables/robustness/{table}.md",
            table=jobs.robustness_table_names(study),
        ),
        html=[
            report(
                f"results/tables/robustness/{table}.html",
                category="4. Robustness",
                labels=jobs.TABLE_LABELS[table],
                caption=f"../report/{table}.rst",
            )
            for table in jobs.robustness_table_names(study)
        ],
        latex=expand(
            "results/tables/robustness/{table}.tex",
            table=jobs.robustness_table_names(study),
        ),
        csv=expand(
            "results/tables/robustness/{table}.csv",
            table=jobs.robustness_table_names(study),
        ),
    log:
        "logs/robustness_tables.log",
    benchmark:
        "results/benchmarks/robustness_tables.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "robustness_tables"),
    message:
        "Counting what is left of each defence"
    script:
        "../../scripts/robustness_tables.py"


rule figure_robust_accuracy:
    input:
        table="results/tables/robustness/robust_accuracy.parquet",
        code=code("figure_robust_accuracy"),
    output:
        png=report(
            "results/figures/robustness/figure_robust_accuracy.png",
            category="4. Robustness",
            labels={"artifact": "Figure", "shows": "robust accuracy against epsilon"},
            caption="../report/figure_robust_accuracy.rst",
        ),
        pdf="results/figures/robustness/figure_robust_accuracy.pdf",
        svg="results/figures/robustness/figure_robust_accuracy.svg",
    log:
        "logs/figure_robust_accuracy.log",
    benchmark:
        "results/benchmarks/figure_robust_accuracy.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "figure_robust_accuracy"),
    message:
        "Robust accuracy against epsilon"
    script:
        "../../scripts/figure_robust_accuracy.py"


rule figure_scaling:
    input:
        table="results/tables/robustness/scaling.parquet",
        code=code("figure_scaling"),
    output:
        png=report(
            "results/figures/robustness/figure_scaling.png",
            category="4. Robustness",
            labels={"artifact": "Figure", "shows": "stretched perturbations"},
            caption="../report/figure_scaling.rst",
        ),
        pdf="results/figures/robustness/figure_scaling.pdf",
        svg="results/figures/robustness/figure_scaling.svg",
    log:
        "logs/figure_scaling.log",
    benchmark:
        "results/benchmarks/figure_scaling.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    message:
        "Stretched perturbations"
    script:
        "../../scripts/figure_scaling.py"


rule figure_controls:
    input:
        table="results/tables/robustness/controls.parquet",
        code=code("figure_controls"),
    output:
        png=report(
            "results/figures/robustness/figure_controls.png",
            category="4. Robustness",
            labels={"artifact": "Figure", "shows": "post-averaging beside controls"},
            caption="../report/figure_controls.rst",
        ),
        pdf="results/figures/robustness/figure_controls.pdf",
        svg="results/figures/robustness/figure_controls.svg",
    log:
        "logs/figure_controls.log",
    benchmark:
        "results/benchmarks/figure_controls.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    params:
        named=jobs.params(study, "figure_controls"),
    message:
        "Post-averaging beside controls"
    script:
        "../../scripts/figure_controls.py"


rule figure_confidence:
    input:
        table="results/tables/robustness/confidence.parquet",
        code=code("figure_confidence"),
    output:
        png=report(
            "results/figures/robustness/figure_confidence.png",
            category="4. Robustness",
            labels={"artifact": "Figure", "shows": "defence rate against confidence"},
            caption="../report/figure_confidence.rst",
        ),
        pdf="results/figures/robustness/figure_confidence.pdf",
        svg="results/figures/robustness/figure_confidence.svg",
    log:
        "logs/figure_confidence.log",
    benchmark:
        "results/benchmarks/figure_confidence.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    message:
        "Defence rate against confidence"
    script:
        "../../scripts/figure_confidence.py"


rule figure_losses:
    input:
        table="results/tables/robustness/loss_curves.parquet",
        code=code("figure_losses"),
    output:
        png=report(
            "results/figures/robustness/figure_losses.png",
            category="4. Robustness",
            labels={"artifact": "Figure", "shows": "loss of the adaptive attacks"},
            caption="../report/figure_losses.rst",
        ),
        pdf="results/figures/robustness/figure_losses.pdf",
        svg="results/figures/robustness/figure_losses.svg",
    log:
        "logs/figure_losses.log",
    benchmark:
        "results/benchmarks/figure_losses.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    message:
        "Loss of the adaptive attacks"
    script:
        "../../scripts/figure_losses.py"


rule robustness:
    input:
        expand(
            "results/tables/robustness/{table}.{form}",
            table=jobs.robustness_table_names(study),
            form=["parquet", "md", "html", "tex", "csv"],
        ),
        expand(
            "results/figures/robustness/{figure}.{form}",
            figure=jobs.robustness_figures(study),
            form=["png", "pdf", "svg"],
        ),
