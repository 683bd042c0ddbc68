"""A configuration for one's own images and weights, written after a look at both.

What can be told from the files is told: classes, shape and architecture. What can't be, such as the
normalisation that a network was trained with, is guessed as is customary, said in a comment, and
tried on some of the images.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import tempfile
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from bandlimit.config import overlays, registry
from bandlimit.config.schema import read_schema
from bandlimit.data import make, stream
from bandlimit.data.source import by_times
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models import classifier, weights
from bandlimit.plan import load, look
from bandlimit.plan.look import Network, Pictures

EXAMINED = 100
"""Images that attacks which know the defence are run on."""

TRIED = 64
"""Images that the network classifies as a check."""

BOUNDS = ("2/255", "4/255", "8/255", "16/255")
"""Those that networks of natural images fall at; config.yaml has the wider ones of its own."""

FEW = ("8/255", "16/255")
"""Those of attacks with few bounds: that of the tables, and the largest."""

OF_FEW = (
    *("fgsm", "transfer_pgd", "noise", "eot_one_step", "eot_pgd_margin"),
    *("exact_pgd", "square", "autoattack", "autoattack_rand"),
)

SHIFTS = {"CIFAR-10": 6.2, "ImageNet": 4.5}
"""How far the document's r moves a pixel, root mean square, in units of 1/255."""

COMMON = {
    1: {"MNIST": ([0.1307], [0.3081]), "Fashion-MNIST": ([0.286], [0.353])},
    3: {
        "ImageNet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "CIFAR-10": ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]),
    },
}
"""Normalisations that networks of so many channels are often trained with: mean, std."""

Normalisation = tuple[list[float], list[float]]


def write(
    name: str,
    *,
    images: str,
    weights_path: str,
    architecture: str | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    images_per_run: int | None = None,
    out: str | None = None,
    force: bool = False,
) -> str:
    """Write a configuration for one's own images and weights, and return what was found, in words.

    Runs in the folder of the workflow; the file is laid over its `config.yaml`.

    Args:
        name: of the experiment; names of dataset and model derive from it.
        images: a folder with a folder for each class, or a Parquet file with the columns image_id,
            label, split and image, or as Hugging Face lays them out.
        weights_path: a .safetensors file or a PyTorch state dict.
        architecture: a name that `architectures.build` knows; found by the tensors if not given.
        classes: number of logits that is expected; only compared with that of the weights.
        mean: of each channel, pixels in [0, 1]; guessed if not given.
        std: likewise.
        images_per_run: size of the seeded subset to run on.
        out: the file to write; `config/{name}.yaml` if not given.
        force: whether an existing file is overwritten.

    Raises:
        UserError: name, images or weights can't be used, or do not fit each other; or the file
            exists. Nothing is left behind.
    """
    if not os.path.isfile("config.yaml"):
        raise UserError(
            "There is no config.yaml here; the command runs in the folder of the workflow."
        )
    _check_name(name)
    out = os.path.normpath(out or f"config/{name}.yaml")
    if os.path.isdir(out):
        raise UserError(f"--out must name a file to write, got the folder {out!r}.")
    if os.path.exists(out) and not force:
        raise UserError(
            f"The file {out!r} exists already; --force overwrites it, --out FILE writes another."
        )
    config = overlays.read(["config.yaml"])
    models = registry.read("workflow/registry/models.csv")
    sources = registry.read("workflow/registry/datasets.csv")
    taken = {key: set(config.get(key) or {}) for key in ("datasets", "models", "experiments")}
    experiment = _free(name, taken["experiments"])
    dataset = _free(f"{name}_images", {*taken["datasets"], *sources})
    model = _free(f"{name}_network", {*taken["models"], *models})
    images, weights_path = (_plain(path) for path in (images, weights_path))
    network = look.network(weights_path, architecture, classes)
    published = [
        row
        for row in models.values()
        # One that the workflow trains says what suits its images, not what is customary.
        if row["architecture"] == network.architecture and row["source"] != "trained"
    ]
    pictures = look.pictures(
        dataset, images, images_per_run, network, published, int(config["seed"])
    )
    # As the run will read them, so that what can go wrong there goes wrong here.
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "images.parquet"
        make.make_dataset(
            pictures.source,
            sample,
            split=pictures.split,
            images=min(len(pictures.listing.labels), look.IMAGES_PER_RUN),
            seed=int(config["seed"]),
        )
        shape = store.image_shape(sample)
        _check_channels(pictures, network, shape)
        normalisation, origin = _normalisation(network, published, mean, std, sample)
        correct, tried, better = _try(network, shape, normalisation, sample, dataset, config)
    radius, radius_comment = _radius(shape, normalisation[1])
    text = _text(
        command=_command(name, images, weights_path),
        out=out,
        names=(experiment, dataset, model),
        pictures=pictures,
        network=network,
        shape=shape,
        normalisation=normalisation,
        origin=origin,
        radius=radius,
        radius_comment=radius_comment,
    )
    with store.atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        load.load(overlays.read(["config.yaml", temporary]), ".", look=True)
    quoted = shlex.quote(out)
    renamed = (
        []
        if experiment == name
        else [f"Note: config.yaml has an experiment {name!r}, so that yours is {experiment!r}."]
    )
    verdict = (
        f"The network classifies {correct} of {tried} images correctly; if that is low, check mean "
        "and std and the order of the classes."
    )
    if better is not None:
        gained, kind, (other_mean, other_std) = better
        verdict += (
            f" With the mean and std {kind} it would be {gained}: add "
            f"--mean {' '.join(map(str, other_mean))} --std {' '.join(map(str, other_std))} --force"
        )
        verdict += " and see." if out == f"config/{name}.yaml" else f" --out {quoted} and see."
    return "\n".join(
        [
            f"{images}: {_counted(pictures)}, read as {by_times(shape)}"
            + (f"; a run takes {pictures.images} of them." if pictures.images else "."),
            f"{weights_path}: {network.architecture}, {network.classes} classes, "
            f"{network.channels} channel{'s' if network.channels > 1 else ''}.",
            f"Mean {_row(normalisation[0])}, std {_row(normalisation[1])}: {origin}.",
            *pictures.notes,
            *renamed,
            verdict,
            f"Wrote {out}. What it takes, and the run:",
            f"  bandlimit plan --configfile {quoted}",
            f"  snakemake --configfile {quoted} --cores all",
        ]
    )


def _check_name(name: str) -> None:
    rule = read_schema(Path("workflow/schemas/config.schema.yaml"))["$defs"]["name"]
    if not re.fullmatch(rule["pattern"].strip("^$"), name):
        raise UserError(f"The name must be {rule['$comment']}, such as 'mine', got {name!r}.")


def _free(name: str, taken: Collection[str]) -> str:
    """Return the name, with a number behind it where another has it."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _plain(path: str) -> str:
    """Return a path without './' and a '/' at its end, which Snakemake warns of."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"The path {path!r} is not UTF-8, and configurations are; rename the file or folder."
        ) from error
    if set(path) & set("{}\n"):
        raise UserError(
            f"The path {path!r} has a brace or a line break, which means something else to the "
            "workflow; rename the file or folder."
        )
    return os.path.normpath(path)


def _check_channels(pictures: Pictures, network: Network, shape: Sequence[int]) -> None:
    if shape[0] != network.channels:
        raise UserError(
            f"The images of {str(pictures.source.path)!r} have {shape[0]} channel"
            f"{'s' if shape[0] > 1 else ''}, but the network of {network.path!r} takes "
            f"{network.channels}; convert the images."
        )


def _normalisation(
    network: Network,
    published: Sequence[Mapping[str, str]],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    sample: Path,
) -> tuple[Normalisation, str]:
    """Return mean and standard deviation to standardise by, and in words where they come from."""
    if mean is not None or std is not None:
        return _given(network.channels, mean, std), "as given"
    stated = _stated(network)
    if stated is not None:
        return stated, "as the weights file states"
    customary = {
        (tuple(map(float, row["mean"].split())), tuple(map(float, row["std"].split())))
        for row in published
        if registry.shape(row["shape"])[0] == network.channels
    }
    if len(customary) == 1:
        pair = customary.pop()
        return (list(pair[0]), list(pair[1])), "a guess, that of published networks of this kind"
    measured = _measured(sample)
    if min(measured[1]) <= 0:
        raise UserError(
            "A channel of the images is the same everywhere, so that no std can be measured; give "
            "--mean and --std as the network was trained."
        )
    return measured, "a guess, measured over images of this dataset"


def _given(
    channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Normalisation:
    if mean is None or std is None:
        raise UserError("--mean and --std must be given both, or neither.")
    for option, values, low in (("--mean", mean, None), ("--std", std, 0)):
        if len(values) != channels:
            raise UserError(
                f"{option} needs a number for each of the {channels} channels of the network, got "
                f"{_row(values)}."
            )
        # A mean below 0 is odd, and right where a network takes other pixels.
        if not all(math.isfinite(v) and v <= 1 and (low is None or v > low) for v in values):
            allowed = "at most 1" if low is None else "above 0 and at most 1"
            raise UserError(
                f"{option} is that of pixels in [0, 1]: {allowed}, got {_row(values)}; divide what "
                "was measured on pixels from 0 to 255 by 255."
            )
    return list(mean), list(std)


def _stated(network: Network) -> Normalisation | None:
    """Return what a model file of this project says of itself."""
    if not network.path.endswith(".safetensors"):
        return None
    _, metadata = weights.read_safetensors(Path(network.path))
    try:
        return _given(network.channels, json.loads(metadata["mean"]), json.loads(metadata["std"]))
    except (KeyError, ValueError, TypeError, UserError):
        return None


def _measured(sample: Path) -> Normalisation:
    """Return mean and standard deviation of each channel over the images of a file."""
    count, total, squares = 0, torch.tensor(0.0), torch.tensor(0.0)
    for _, _, images in stream.batches(sample, 16):
        pixels = images.double().transpose(0, 1).flatten(1)
        count += pixels.shape[1]
        total, squares = total + pixels.sum(1), squares + pixels.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return [round(v, 4) for v in mean.tolist()], [round(v, 4) for v in std.tolist()]


def _try(
    network: Network,
    shape: Sequence[int],
    normalisation: Normalisation,
    sample: Path,
    dataset: str,
    config: Mapping[str, Any],
) -> tuple[int, int, tuple[int, str, Normalisation] | None]:
    """Classify some images.

    Returns:
        How many are classified correctly, of how many, and where that are few and another common
        normalisation does clearly better: how many then, whose it is, and mean and std.
    """
    count = min(TRIED, store.read(sample, ["label"]).num_rows)
    seed = int(config["seed"])
    kept = stream.chosen(sample, count, name=dataset, seed=seed)
    _, labels, images = next(stream.batches(sample, count, keep=kept))
    path = sample.with_name("network.safetensors")
    weights.save(
        path,
        network.state,
        architecture=network.architecture,
        mean=normalisation[0],
        std=normalisation[1],
        shape=shape,
        classes=network.classes,
        source=network.path,
    )
    model = classifier.load(path)

    def correct(mean: Sequence[float], std: Sequence[float]) -> int:
        model.mean.copy_(torch.tensor(mean).reshape(model.mean.shape))
        model.std.copy_(torch.tensor(std).reshape(model.std.shape))
        with torch.no_grad():
            logits = model(images)
        if not logits.isfinite().all():
            raise UserError(
                f"The network of {network.path!r} gives logits that are no finite numbers: its "
                "weights are damaged, or mean and std are far off."
            )
        return int((logits.argmax(1) == labels).sum())

    try:
        found = correct(*normalisation)
    except RuntimeError as error:  # layers that halve an image too often
        raise UserError(
            f"The network of {network.path!r} can't take images of {by_times(shape)} "
            f"({str(error).splitlines()[0]})."
        ) from error
    if found >= 0.9 * count:
        return found, count, None
    others: dict[str, Normalisation] = {
        **{f"of {name}": pair for name, pair in COMMON.get(network.channels, {}).items()},
        "measured over the images": _measured(sample),
        "0.5": ([0.5] * network.channels, [0.5] * network.channels),
        "0 and 1": ([0.0] * network.channels, [1.0] * network.channels),
    }
    tries = [(correct(*pair), kind, pair) for kind, pair in others.items() if min(pair[1]) > 0]
    best = max(tries, key=lambda tried: tried[0])
    # Less may be luck.
    return found, count, best if best[0] >= found + max(3, 0.1 * count) else None


def _radius(shape: Sequence[int], std: Sequence[float]) -> tuple[float, str]:
    """Return a radius that moves a pixel as far as the document's, and the comment that says so."""
    kind = "CIFAR-10" if shape[1] * shape[2] <= look.SMALL else "ImageNet"
    rms = math.sqrt(sum(v * v for v in std) / len(std))
    radius = float(f"{SHIFTS[kind] / 255 * math.sqrt(math.prod(shape)) / rms:.2g}")
    told = {"CIFAR-10": "r = 6 for CIFAR-10", "ImageNet": "r = 30 for ImageNet"}[kind]
    return radius, (
        f"Radius r of post-averaging, L2 in the standardised space of the network: the document's "
        f"{told} moves a pixel by {SHIFTS[kind]}/255 (root mean square), and so does r = "
        f"{_number(radius)} here: {SHIFTS[kind]}/255 * sqrt({' * '.join(map(str, shape))}) / "
        f"{rms:.3f}, the root mean square of std."
    )


def _text(
    *,
    command: str,
    out: str,
    names: tuple[str, str, str],
    pictures: Pictures,
    network: Network,
    shape: Sequence[int],
    normalisation: Normalisation,
    origin: str,
    radius: float,
    radius_comment: str,
) -> str:
    """Return the configuration as YAML; at most 15 of its lines are no comments."""
    experiment, dataset, model = names
    source = pictures.source
    # Half the main radius and twice of it, for Figure 2; numbers of directions for Table 2.
    radii = ", ".join(_number(factor * radius) for factor in (0.5, 1, 2))
    averaging = f"{{radius: {_number(radius)}, radii: [{radii}], directions_sweep: [6, 15, 30]}}"
    entry = {
        "loader": source.loader,
        "path": str(source.path),
        "classes": source.classes,
        "split": pictures.split,
        "images": pictures.images,
        "resize": source.resize,
        "crop": source.crop,
    }
    keys = ", ".join(f"{key}: {_scalar(v)}" for key, v in entry.items() if v is not None)
    subset = "" if pictures.images is None else " 'images' takes a seeded subset; without it, all."
    framing = "" if source.crop is None else " 'resize' and 'crop' bring them to one size."
    lines = [
        *_comment(f"Own images and weights, first written by: {command}"),
        *_comment(f"Run it: snakemake --configfile {shlex.quote(out)} --cores all"),
        *_comment("Laid over config.yaml, where all else stands, such as parameters of attacks."),
        *_comment(f"{_counted(pictures)}.{_labels(pictures)}{subset}{framing}"),
        f"datasets: {{{dataset}: {{{keys}}}}}",
        "models:",
        f"  {model}:",
        f"    path: {_scalar(network.path)}",
        f"    sha256: {_scalar(store.sha256(network.path))}",
        f"    architecture: {network.architecture}",
        f"    classes: {network.classes}",
        *_comment("Channels, height, width.", 4),
        f"    shape: {_row(shape)}",
        *_comment(
            "Mean and standard deviation of each channel, pixels in [0, 1], that the network was "
            f"trained with; a wrong one costs accuracy. These are {origin}.",
            4,
        ),
        f"    mean: {_row(normalisation[0])}",
        f"    std: {_row(normalisation[1])}",
        *_comment("Runs this alone, not the experiments of config.yaml."),
        f"only: [{experiment}]",
        f"experiments: {{{experiment}: {{dataset: {dataset}, model: {model}}}}}",
        *_comment(radius_comment),
        f"bandlimiting: {{experiments: {{{experiment}: {averaging}}}}}",
        *_comment(
            "Attackers who know the defence, and controls, on some of the images. Bounds are those "
            "of attacks without bounds of their own."
        ),
        f"robustness: {{epsilons: [{', '.join(BOUNDS)}], experiments: {{{experiment}: "
        f"{{images: {min(EXAMINED, pictures.taken)}}}}},",
        f"  attacks: {{{OF_FEW[0]}: &few {{epsilons: [{', '.join(FEW)}]}}, "
        f"{', '.join(f'{name}: *few' for name in OF_FEW[1:])}}}}}",
    ]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: int = 0) -> list[str]:
    """Return text as lines of a comment."""
    mark = " " * indent + "# "
    # Names of folders may hold anything, and a line break would end the comment.
    return textwrap.wrap(
        " ".join(text.split()),
        100,
        initial_indent=mark,
        subsequent_indent=mark,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _counted(pictures: Pictures) -> str:
    """Return number of images and classes, in words."""
    labels = set(pictures.listing.labels)
    split = f" of the split {pictures.split!r}" if pictures.split else ""
    return f"{len(pictures.listing.labels):,} images of {len(labels)} classes{split}"


def _labels(pictures: Pictures) -> str:
    """Return which label a class folder has, in words."""
    if not pictures.folders:
        if not pictures.is_folder:
            return " Labels are those of its rows."
        stated = os.path.isfile(f"{pictures.source.path}/classes.csv")
        return f" Labels are those of {'its classes.csv' if stated else 'the wnids of ImageNet'}."
    if pictures.folders == tuple(map(str, range(len(pictures.folders)))):
        return " Labels are the names of the folders."
    told = [f"{name} = {label}" for label, name in enumerate(pictures.folders)]
    if len(told) > 12:
        told = [*told[:6], "...", told[-1]]
    return f" Labels are the order of the folders: {', '.join(told)}."


def _command(name: str, images: str, weights_path: str) -> str:
    return shlex.join(["bandlimit", "new", name, "--images", images, "--weights", weights_path])


def _scalar(value: str | int) -> str:
    """Return a value as YAML reads it, in quotes only where it needs them."""
    if isinstance(value, int):
        return str(value)
    try:
        plain = yaml.safe_load(f"[{value}]") == [value]
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    return f"{value:g}"


def _row(values: Iterable[float]) -> str:
    return f"[{', '.join(map(str, values))}]"
