"""Attack one shard of a dataset through a defence that the attack knows, and read it again."""

from bandlimit import datasets, models, progress, store
from bandlimit.attacks import adaptive
from bandlimit.defenses.post_averaging import PostAveraging
from examined import defenses
from job import run

BATCH = {True: 64, False: 4}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""

PASSES = {True: 1536, False: 16}
"""Forward passes that one gradient may keep in memory, likewise."""


def main(job):
    p, w = job.params, job.wildcards
    device = models.device(p.device)
    model, examined = defenses(job, f"attack {w['adaptive']} on")
    datasets.check_shape(job.input.dataset, model.shape)
    keep = datasets.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    small = max(model.shape[1:]) <= 64
    defense = examined[w["examined"]]
    # A defence that does not draw is differentiated as it stands.
    few = (
        p.parameters.get("samples", 2 if p.kind == "eot_pgd" else None) if defense.random else None
    )
    passes = few or (defense.samples() if isinstance(defense, PostAveraging) else 1)
    size = max(1, min(BATCH[small], PASSES[small] // passes))

    def images():
        return datasets.stream(job.input.dataset, size, w["shard"], keep)

    with store.TableWriter(
        job.output.adversarial, adaptive.adaptive_schema(model.shape), job.certificate(device)
    ) as writer:
        for table in adaptive.generate_adaptive(
            defense,
            adaptive.create_adaptive(p.kind, **p.parameters),
            progress.images(
                images(),
                progress.count(job.input.dataset, w["shard"], keep),
                f"{w['adaptive']} on {w['examined']}",
            ),
            seed=p.seed,
            dataset=w["dataset"],
            model_name=w["model"],
            defense_name=w["examined"],
            attack_name=w["adaptive"],
            epsilons=p.epsilons,
        ):
            writer.write(table)
    adaptive.recheck_adaptive(job.output.adversarial, images())


run(main, snakemake)
