# Records of the study of robustness: attacks on defences, their judges, controls.


examined = catalogue.module("robustness")


rule attack_defense:
    input:
        unpack(lambda wildcards: examined.other_models(run, [wildcards.defense])),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        gates=lambda wildcards: paths.gate_files(run, wildcards.model),
    output:
        adversarial="results/defense_attacks/{dataset}/{model}/{defense}/{defense_attack}/{shard}.parquet",
    log:
        "logs/attack_defense/{dataset}/{model}/{defense}/{defense_attack}/{shard}.log",
    benchmark:
        "results/benchmarks/attack_defense/{dataset}/{model}/{defense}/{defense_attack}/{shard}.tsv"
    # The longest chain of jobs begins early, beside others, not alone at the end.
    priority: 5
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("attack_defense"),
        identity=lambda wildcards: jobs.identity(run, "attack_defense", wildcards),
    message:
        "Attacking {wildcards.defense} of {wildcards.model} by {wildcards.defense_attack}, {wildcards.shard}"
    script:
        "../../scripts/attack_defense.py"


rule judge_defense:
    input:
        unpack(lambda wildcards: examined.other_models(run, [wildcards.defense])),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial=lambda wildcards: examined.judged_files(run, wildcards),
    output:
        judgements="results/judgements/{dataset}/{model}/{defense}/{shard}.parquet",
        symptoms="results/symptoms/{dataset}/{model}/{defense}/{shard}.parquet",
    log:
        "logs/judge_defense/{dataset}/{model}/{defense}/{shard}.log",
    benchmark:
        "results/benchmarks/judge_defense/{dataset}/{model}/{defense}/{shard}.tsv"
    priority: 6
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("judge_defense"),
        identity=lambda wildcards: jobs.identity(run, "judge_defense", wildcards),
    message:
        "Judging {wildcards.defense} of {wildcards.model} on fresh draws, {wildcards.shard}"
    script:
        "../../scripts/judge_defense.py"


rule evaluate_controls:
    input:
        unpack(
            lambda wildcards: examined.other_models(
                run, examined.examination(run, wildcards).controls
            )
        ),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial=lambda wildcards: examined.document_files(run, wildcards),
    output:
        controls="results/controls/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/evaluate_controls/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate_controls/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("evaluate_controls"),
        identity=lambda wildcards: jobs.identity(run, "evaluate_controls", wildcards),
    message:
        "Comparing controls with the defence of {wildcards.model}, {wildcards.shard}"
    script:
        "../../scripts/evaluate_controls.py"


rule scale_perturbations:
    input:
        unpack(
            lambda wildcards: examined.other_models(
                run,
                run.studies["robustness"].judges(examined.examination(run, wildcards)),
            )
        ),
        dataset="results/datasets/{dataset}.parquet",
        model="results/models/{model}.safetensors",
        adversarial=lambda wildcards: examined.document_files(
            run, wildcards, scaled=True
        ),
    output:
        scalings="results/scalings/{dataset}/{model}/{shard}.parquet",
    log:
        "logs/scale_perturbations/{dataset}/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/scale_perturbations/{dataset}/{model}/{shard}.tsv"
    conda:
        "../../envs/bandlimit.yaml"
    resources:
        gpu=helpers.gpus(run),
    params:
        **code("scale_perturbations"),
        identity=lambda wildcards: jobs.identity(run, "scale_perturbations", wildcards),
    message:
        "Stretching minimal perturbations of {wildcards.model}, {wildcards.shard}"
    script:
        "../../scripts/scale_perturbations.py"


# Whether a defence holds, on a page of its own.
rule defense_page:
    input:
        unpack(lambda wildcards: examined.page_files(run, wildcards)),
        templates=helpers.own_files(
            [
                f"bandlimit/site/templates/{name}"
                for name in (
                    "base.html.j2",
                    "defense.html.j2",
                    "defense.md.j2",
                    "style.css",
                )
            ],
            workflow.basedir,
        ),
    output:
        html="results/defenses/{defense}.html",
        markdown="results/defenses/{defense}.md",
    log:
        "logs/defense_page/{defense}.log",
    benchmark:
        "results/benchmarks/defense_page/{defense}.tsv"
    localrule: True
    conda:
        "../../envs/bandlimit.yaml"
    params:
        **code("defense_page"),
        identity=lambda wildcards: jobs.identity(run, "defense_page", wildcards),
    message:
        "Writing the page of the defence {wildcards.defense}"
    script:
        "../../scripts/defense_page.py"


rule defenses:
    input:
        examined.pages(run),
