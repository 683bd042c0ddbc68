"""Train a model on a dataset of the workflow, with what is kept and measured along the way."""

import torch

from bandlimit.provenance.job import run
from bandlimit.data import stream
from bandlimit.files import parts, store
from bandlimit.models.device import choose_device
from bandlimit.training import loop, states
from bandlimit.training.curves import Curves
from bandlimit.training.recipes import Recipe
from bandlimit.training.responses import Responses
from bandlimit.training.trajectories import Measurements, first_steps


def main(job):
    p = job.params
    recipe = dict(p.recipe)
    followed = recipe.pop("trajectory", None)
    curves = recipe.pop("curves", None)
    responses = recipe.pop("responses", None)
    names = sorted(recipe.get("checkpoints", {}))
    kept, further = (as_list(job.output.get(key, [])) for key in ("checkpoints", "seeds"))
    loss = recipe.get("loss", "cross_entropy")
    measured = measurements(job.input.measured, loss, p.seed, **followed) if followed else None
    certificate = job.certificate(choose_device(p.device))
    state = parts.state_of(job.output.model)
    trained = loop.train(
        job.input.dataset,
        job.output.model,
        recipe=Recipe.of(recipe),
        architecture=p.architecture,
        classes=p.classes,
        own_code=getattr(p, "own_code", None),
        mean=p.mean,
        std=p.std,
        seed=p.seed,
        model_name=job.wildcards["trained"],
        device=p.device,
        threads=job.threads,
        certificate=certificate,
        out_checkpoints=dict(zip(names, kept, strict=True)),
        out_seeds=further,
        resume=state,
        measurements=measured,
        followed=curves_of(job, p.seed, **curves) if curves else None,
        recorded=responses_of(job, p.seed, loss, **responses) if responses else None,
    )
    store.write(job.output.history, trained.history, certificate)
    if followed:
        store.write(job.output.trajectory, trained.trajectory, certificate)
    if curves:
        store.write(job.output.curves, trained.curves, certificate)
    if responses:
        store.write(job.output.responses, trained.responses, certificate)
    # Only now, since where one of these can't be written another attempt would train anew.
    states.remove(state)


def as_list(files):
    """Return files as a list, also where there is one alone."""
    return [files] if isinstance(files, str) else list(files)


def choice(path, images, name, seed):
    """Return the ids, images and labels of a seeded choice of images of a dataset."""
    keep = stream.chosen(path, images, name=name, seed=seed)
    image_ids = store.read(path, ["image_id"])["image_id"].to_pylist()
    rows = [n for n, i in enumerate(image_ids) if keep is None or i in keep]
    table = store.take(path, rows, ["image_id", "label", "image"])
    images = torch.from_numpy(store.images_of(table).copy())
    return table["image_id"].to_pylist(), images, torch.tensor(table["label"].to_pylist())


def curves_of(job, seed, *, dataset, images, train_images, **rest):
    """Return what the curves are of: images of a test set, and of the training images."""
    _, tested, labels = choice(job.input.tested, images, dataset, seed)
    # Of two data sets of equal images, which differ in their labels, the same are taken.
    _, trained, train_labels = choice(job.input.dataset, train_images, "curves", seed)
    return Curves(
        images=tested, labels=labels, train_images=trained, train_labels=train_labels, **rest
    )


def responses_of(job, seed, loss, *, images, every, dataset=None):
    """Return whose outputs are recorded: training images, unless another dataset is named."""
    path = job.input.observed if dataset else job.input.dataset
    # Of two data sets of equal images, which differ in their labels, the same are taken.
    image_ids, pixels, _ = choice(path, images, dataset or "responses", seed)
    return Responses(image_ids=image_ids, images=pixels, every=every, loss=loss)


def measurements(path, loss, seed, *, dataset, images, every, radii, epsilon, steps, rel_stepsize):
    """Return what is measured along the way: FGM and PGD along the loss, of one L2 bound."""
    image_ids, pixels, labels = choice(path, images, dataset, seed)
    return Measurements(
        image_ids=image_ids,
        images=pixels,
        labels=labels,
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
