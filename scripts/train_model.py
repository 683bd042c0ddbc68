"""Train a model on a dataset of the workflow, with its checkpoints and its trajectory."""

import torch

from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.training import loop
from bandlimit.training.recipes import Recipe
from bandlimit.training.trajectories import Measurements, first_steps


def main(job):
    p = job.params
    recipe = dict(p.recipe)
    followed = recipe.pop("trajectory", None)
    names = sorted(recipe.get("checkpoints", {}))
    kept = job.output.get("checkpoints", [])
    loss = recipe.get("loss", "cross_entropy")
    measured = measurements(job.input.measured, loss, p.seed, **followed) if followed else None
    certificate = job.certificate(choose_device(p.device))
    trained = loop.train(
        job.input.dataset,
        job.output.model,
        recipe=Recipe.of(recipe),
        architecture=p.architecture,
        classes=p.classes,
        mean=p.mean,
        std=p.std,
        seed=p.seed,
        model_name=job.wildcards["trained"],
        device=p.device,
        threads=job.threads,
        certificate=certificate,
        out_checkpoints=dict(zip(names, [kept] if isinstance(kept, str) else kept, strict=True)),
        resume=f"{job.output.model}.state",
        measurements=measured,
    )
    store.write(job.output.history, trained.history, certificate)
    if followed:
        store.write(job.output.trajectory, trained.trajectory, certificate)


def measurements(path, loss, seed, *, dataset, images, every, radii, epsilon, steps, rel_stepsize):
    """Return what is measured along the way: FGM and PGD along the loss, of one L2 bound."""
    keep = stream.chosen(path, images, name=dataset, seed=seed)
    table = store.read(path, ["image_id", "label", "image"])
    rows = [row for row, name in enumerate(table["image_id"].to_pylist()) if name in keep]
    table = table.take(rows)
    return Measurements(
        image_ids=table["image_id"].to_pylist(),
        images=torch.from_numpy(store.images_of(table).copy()),
        labels=torch.tensor(table["label"].to_pylist()),
        perturbations={
            "fgm_l2": {"kind": "fgm_l2", "epsilon": epsilon, "clip": False, "loss": loss},
            "pgd_l2": {
                "kind": "pgd_l2",
                "epsilon": epsilon,
                "steps": steps,
                "rel_stepsize": rel_stepsize,
                "clip": False,
                "loss": loss,
            },
        },
        radii=radii,
        every=every,
        steps=first_steps(every),
    )


run(main, snakemake)
