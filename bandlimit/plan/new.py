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
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import nn

from bandlimit.config import overlays, registry
from bandlimit.config.schema import read_schema
from bandlimit.data import make, stream
from bandlimit.data.source import Listing, Source, by_times
from bandlimit.errors import UserError, suggest
from bandlimit.files import store
from bandlimit.models import classifier, weights
from bandlimit.models.architectures import ARCHITECTURES
from bandlimit.plan import load

IMAGES_PER_RUN = 200
"""Size of the subset where there are more images and nothing else is asked for."""

EXAMINED = 100
"""Images that attacks which know the defence are run on."""

TRIED = 64
"""Images that the network classifies as a check."""

SMALL = 64 * 64
"""Up to so many pixels the radius follows that of CIFAR-10 in the document, above of ImageNet."""

SHIFTS = {"CIFAR-10": 6.2, "ImageNet": 4.5}
"""How far the document's r moves a pixel, root mean square, in units of 1/255."""

SPLITS = ("test", "val", "valid", "validation", "train", "training")
"""Names of splits; those that a network is not trained on stand before the others."""

COMMON = {
    1: {"MNIST": ([0.1307], [0.3081]), "Fashion-MNIST": ([0.286], [0.353])},
    3: {
        "ImageNet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "CIFAR-10": ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]),
    },
}
"""Normalisations that networks of so many channels are often trained with: mean, std."""

Normalisation = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Pictures:
    """What a look at the images tells.

    Attributes:
        source: where they come from, as the workflow will read them.
        listing: the images, not decoded.
        split: the split taken, or None for all.
        folders: the class folders in the order of their labels; empty for a Parquet file and where
            a classes.csv states labels.
        images: size of the subset to run on, or None for all.
        notes: what a user should know.
    """

    source: Source
    listing: Listing
    split: str | None
    folders: tuple[str, ...]
    images: int | None
    notes: tuple[str, ...]

    @property
    def is_folder(self) -> bool:
        """Whether they are picture files, not rows of a Parquet file."""
        return self.source.loader == "imagefolder"

    @property
    def taken(self) -> int:
        """How many images a run takes."""
        return self.images or len(self.listing.labels)


@dataclass(frozen=True)
class Network:
    """What a look at the weights tells.

    Attributes:
        path: of the weights file, as given.
        state: parameters and buffers.
        architecture: the one that they fit.
        classes: number of logits.
        channels: of its images.
    """

    path: str
    state: Mapping[str, torch.Tensor]
    architecture: str
    classes: int
    channels: int


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
            label, split and image.
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
    _check_name(name)
    out = os.path.normpath(out or f"config/{name}.yaml")
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
    network = _network(weights_path, architecture, classes)
    published = [
        row
        for row in models.values()
        # One that the workflow trains says what suits its images, not what is customary.
        if row["architecture"] == network.architecture and row["source"] != "trained"
    ]
    pictures = _pictures(dataset, images, images_per_run, network, published, int(config["seed"]))
    # As the run will read them, so that what can go wrong there goes wrong here.
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "images.parquet"
        make.make_dataset(
            pictures.source,
            sample,
            split=pictures.split,
            images=min(len(pictures.listing.labels), IMAGES_PER_RUN),
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
        load.load(overlays.read(["config.yaml", temporary]), ".")
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
    if set(path) & set("{}\n"):
        raise UserError(
            f"The path {path!r} has a brace or a line break, which means something else to the "
            "workflow; rename the file or folder."
        )
    return os.path.normpath(path)


def _network(path: str, architecture: str | None, classes: int | None) -> Network:
    """Return what the weights are of."""
    if architecture is not None and architecture not in ARCHITECTURES:
        raise UserError(
            f"--architecture: there is no {architecture!r}; {suggest(architecture, ARCHITECTURES)}."
        )
    state = weights.read_weights(path)
    if architecture is not None:
        empty, found = _like(architecture, state)
        weights.check_fit(state, empty, architecture, path)
        network = Network(path, state, architecture, *found)
    else:
        network = _recognised(path, state)
    if classes not in (None, network.classes):
        raise UserError(
            f"--classes is {classes}, but the network of {path!r} has {network.classes} classes, "
            "as its last layer says."
        )
    return network


def _recognised(path: str, state: Mapping[str, torch.Tensor]) -> Network:
    """Return the network whose tensors have these names and shapes."""
    given = _shapes(state)
    first = next(iter(given), "")
    prefix = first[: first.find(".") + 1]
    inner = {name.removeprefix(prefix): shape for name, shape in given.items()}
    wrapped = prefix != "" and all(name.startswith(prefix) for name in given)
    nearest: tuple[int, str, dict[str, list[int]]] = (-1, "", {})
    for name in ARCHITECTURES:
        empty, (classes, channels) = _like(name, state)
        wanted = _shapes(empty.state_dict())
        if wanted == given:
            return Network(path, state, name, classes, channels)
        if wrapped and set(wanted) == set(inner):
            raise UserError(
                f"The weights in {path!r} are those of {name!r} in a wrapper: all names begin with "
                f"{prefix!r}; save the state dict of the network within."
            )
        equal = sum(given.get(key) == shape for key, shape in wanted.items())
        nearest = max(nearest, (equal, name, wanted), key=lambda found: found[0])
    equal, name, wanted = nearest
    differs = next(key for key in (*wanted, *given) if wanted.get(key) != given.get(key))
    raise UserError(
        f"The weights in {path!r} fit none of the known architectures, "
        f"{', '.join(map(repr, ARCHITECTURES))}; the nearest is {name!r} ({equal} of its "
        f"{len(wanted)} tensors are there), which first differs at {differs!r}: the shape "
        f"{wanted.get(differs, 'none')} is expected, and {given.get(differs, 'none')} was given "
        "(docs/extend.md says how to add an architecture)."
    )


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    return {k: list(v.shape) for k, v in state.items() if not k.endswith(weights.COUNTER)}


def _like(name: str, state: Mapping[str, torch.Tensor]) -> tuple[nn.Module, tuple[int, int]]:
    """Return an architecture without storage, with classes and channels as in some weights.

    Where the weights have no such layers, it has 10 classes and 3 channels.
    """
    network = weights.empty_network(name, classes=10, channels=3)
    layers = list(network.named_modules())
    first = next(key for key, layer in layers if isinstance(layer, nn.Conv2d))
    last = [key for key, layer in layers if isinstance(layer, nn.Linear)][-1]
    kernel, matrix = (state.get(f"{layer}.weight") for layer in (first, last))
    channels = int(kernel.shape[1]) if kernel is not None and kernel.ndim == 4 else 3
    classes = int(matrix.shape[0]) if matrix is not None and matrix.ndim == 2 else 10
    try:
        network = weights.empty_network(name, classes=classes, channels=channels)
    except UserError:  # it takes 3 channels only; the comparison of shapes says so
        network, channels = weights.empty_network(name, classes=classes, channels=3), 3
    return network, (classes, channels)


def _pictures(
    dataset: str,
    path: str,
    images: int | None,
    network: Network,
    published: Sequence[Mapping[str, str]],
    seed: int,
) -> Pictures:
    """Return what a look at the images tells, with what makes them of one size."""
    is_folder = os.path.isdir(path)
    if not is_folder and not path.endswith(".parquet"):
        raise UserError(
            f"--images must be an existing folder with a folder for each class, or a .parquet file "
            f"with the columns image_id, label, split and image, got {path!r}."
        )
    source = Source(dataset, "imagefolder" if is_folder else "parquet", path=path)
    listing, split = make.LOADERS[source.loader](source, None, None), None
    notes: list[str] = []
    folders: tuple[str, ...] = ()
    if is_folder and not os.path.isfile(f"{path}/classes.csv"):
        folders = tuple(dict.fromkeys(name.split("/")[0] for name in listing.image_ids))
        notes += _check_folders(path, folders, network)
    elif not is_folder and len(set(listing.splits)) > 1:
        split = next((part for part in SPLITS if part in listing.splits), None)
        if split is not None:
            listing = make.LOADERS[source.loader](source, split, None)
    there = len(listing.labels)
    if images is not None and not 1 <= images <= there:
        raise UserError(f"--images-per-run must be from 1 to {there}, got {images}.")
    images = images or IMAGES_PER_RUN
    pictures = Pictures(
        source=replace(source, classes=len(folders) or network.classes),
        listing=listing,
        split=split,
        folders=folders,
        images=images if images < there else None,
        notes=(),
    )
    if is_folder:
        # The first of each class, and a choice that holds what a small run takes.
        firsts = {label: row for row, label in reversed(list(enumerate(listing.labels)))}.values()
        count = min(there, IMAGES_PER_RUN)
        rows = sorted({*firsts, *stream.subset(dataset, listing.image_ids, count, seed)})
        sizes = Counter(_size(Path(path) / listing.image_ids[row]) for row in rows)
        framed, said = _framed(pictures.source, sizes, published)
        notes += said
        pictures = replace(pictures, source=framed)
        for _ in make.LOADERS[source.loader](framed, None, None).read(sorted(firsts)):
            pass  # one that can't be read is told
    return replace(pictures, notes=tuple(notes))


def _check_folders(path: str, folders: Sequence[str], network: Network) -> list[str]:
    """Return what is worth knowing about the class folders, whose order decides on the labels."""
    if set(map(str.lower, folders)) <= set(SPLITS):
        raise UserError(
            f"The folders in {path!r} are splits ({', '.join(folders)}), where one for each class "
            f"is needed; give one of them, such as --images {path}/{folders[0]}."
        )
    if len(folders) > network.classes:
        raise UserError(
            f"The folder {path!r} has {len(folders)} class folders, but the network of "
            f"{network.path!r} has {network.classes} classes: {folders[network.classes]!r} would "
            f"have the label {network.classes}, and 0..{network.classes - 1} are allowed."
        )
    other = f"{path}/classes.csv, with the columns wnid,label, may state others"
    if len(folders) < 2:
        raise UserError(
            f"The folder {path!r} has only the class folder {folders[0]!r}, where at least 2 are "
            f"needed, unless {path}/classes.csv, with the columns wnid,label, states its label."
        )
    notes = []
    if len(folders) < network.classes:
        notes.append(
            f"Note: the network has {network.classes} classes, and the {len(folders)} class "
            f"folders are taken for 0..{len(folders) - 1}, in their order; {other}."
        )
    digits = [int(name) for name in folders if name.isdecimal()]
    if len(digits) == len(folders) and digits != list(range(len(digits))):
        notes.append(
            f"Note: labels are the order of the folders as text, so that {folders[0]!r} has the "
            f"label 0 and {folders[1]!r} the label 1; {other}."
        )
    return notes


def _size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture, by its header."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {str(path)!r} can't be read ({error}).") from error


def _framed(
    source: Source, sizes: Mapping[tuple[int, int], int], published: Sequence[Mapping[str, str]]
) -> tuple[Source, list[str]]:
    """Return the source with what makes pictures of these sizes those of the network, and why.

    Networks of ImageNet are trained at 224 x 224, cut from the centre of a shorter side of 256.
    Those of CIFAR-10 take any size, so that pictures of one size stay as they are.
    """
    side = registry.shape(published[0]["shape"])[1]
    smallest = min(map(min, sizes))
    usual = f"published networks of this architecture take {side} x {side} pixels"
    if set(sizes) == {(side, side)}:
        return source, []
    small = side * side <= SMALL
    if len(sizes) == 1 and small and max(next(iter(sizes))) <= side:
        return source, []
    if len(sizes) == 1 and (small or smallest < side):
        change = f"if yours does, add 'resize: {side}, crop: {side}' to the dataset"
        return source, [f"Note: {usual}; {change}."]
    resize = side if small else side * 8 // 7
    what = (
        f"the images are of {len(sizes)} sizes"
        if len(sizes) > 1
        else f"the images have {by_times(next(iter(sizes)))} pixels"
    )
    note = (
        f"Note: {what}, and {usual}, so they are resized to a shorter side of {resize} and cut "
        f"to {side} x {side}; if yours takes others, change 'resize' and 'crop', and 'shape'."
    )
    return replace(source, resize=resize, crop=side), [note]


def _check_channels(pictures: Pictures, network: Network, shape: Sequence[int]) -> None:
    if shape[0] != network.channels:
        kinds = {1: "gray", 3: "in colour"}
        first = pictures.listing.image_ids[0]
        raise UserError(
            f"The images of {str(pictures.source.path)!r} are read with {shape[0]} channel"
            f"{'s' if shape[0] > 1 else ''}, since the first, {first!r}, is "
            f"{kinds.get(shape[0], 'so')}, but the network of {network.path!r} takes "
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
    kind = "CIFAR-10" if shape[1] * shape[2] <= SMALL else "ImageNet"
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
        "datasets:",
        *_comment(f"{_counted(pictures)}.{_labels(pictures)}{subset}{framing}", 2),
        f"  {dataset}: {{{keys}}}",
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
        f"bandlimiting: {{experiments: {{{experiment}: {{radius: {_number(radius)}}}}}}}",
        *_comment("Attackers who know the defence, and controls, on some of the images."),
        f"robustness: {{experiments: {{{experiment}: "
        f"{{images: {min(EXAMINED, pictures.taken)}}}}}}}",
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
        return f" Labels are those of its {'classes.csv' if pictures.is_folder else 'rows'}."
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
