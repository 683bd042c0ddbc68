# All tables and figures, from the catalogues of the studies: one rule for each entry. The path of a
# script is read when its job runs, after the loop: it must come from the params of the job.
for entry in entries:

    rule:
        name:
            entry.rule
        input:
            **helpers.own_inputs(entry.reads, workflow.basedir),
        output:
            **helpers.reported(entry, report),
        log:
            f"logs/{entry.rule}.log",
        benchmark:
            f"results/benchmarks/{entry.rule}.tsv"
        localrule: helpers.is_light(entry)
        conda:
            "../../envs/bandlimit.yaml"
        resources:
            gpu=helpers.gpus(run) if entry.artifact.gpu else 0,
        params:
            **code(entry.script),
            identity=entry.identity,
        message:
            entry.message
        script:
            "../../{params.script}"


# One target for each study: its tables and figures.
for study in run.studies:

    rule:
        name:
            study
        input:
            [
                path
                for entry in entries
                if entry.study == study
                for path in entry.files()
            ],
