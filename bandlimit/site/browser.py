"""Single images of one attack: what changed, at which frequencies, and what defences predict."""

from __future__ import annotations

import base64
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from bandlimit.claims.wording import number
from bandlimit.files import store
from bandlimit.spectral import arrays

FLOOR = 50
"""Decibels below its greatest power at which a spectrum is shown black."""

HIGH = 0.25
"""Cycles per pixel above which a frequency counts as high: half of the highest along an axis."""

INLINE = 4096
"""Size in bytes up to which a picture is embedded in the page; a larger one goes to a file."""

BATCH = 64

CLASSES = {
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}
"""Class names of registered sources, by how their names begin."""

RIGHT, WRONG = "✓ right", "✗ wrong"

REASONS = {
    "failed": "The attack found no adversarial image.",
    "misclassified": "Not attacked: the network misclassifies the clean image.",
    "nan_gradient": "No valid result: an output or gradient of the network was not finite.",
    "zero_gradient": "The attack found nothing: the gradient at the clean image is zero.",
}
"""What the page says about an image without an adversarial one, by its status."""

Save = Callable[[Image.Image, str], str]
"""Saves a picture under a name, and returns the source for its `img` element."""


@dataclass(frozen=True)
class Choice:
    """Which images to show, and the files they are in.

    Attributes:
        dataset: name of the dataset.
        source: the dataset's source in the registry, which tells the names of its classes; None
            of one's own data, whatever its name, whose folders tell them.
        model: name of the model.
        attack: name of the attack.
        images: how many images to show, from the start of the dataset.
        epsilon: for an attack at fixed bounds, the bound to show (its largest, if it was not run
            at this one); for a minimal attack, the bound within which the controls judge it.
        radius: of post-averaging.
        directions: of post-averaging.
        images_file: the dataset.
        adversarial: files of adversarial images, of the shards that hold these images, in order.
        clean: evaluations of post-averaging on clean images.
        attacked: evaluations of post-averaging on the adversarial images.
        controls: comparisons of controls; may be empty.
    """

    dataset: str
    source: str | None
    model: str
    attack: str
    images: int
    epsilon: float
    radius: float
    directions: int
    images_file: str
    adversarial: Sequence[str]
    clean: Sequence[str] = ()
    attacked: Sequence[str] = ()
    controls: Sequence[str] = ()


def show(choice: Choice, save: Save) -> dict[str, Any]:
    """Save the pictures, and return what the page says about each image."""
    names = class_names(choice.source) if choice.source else own_names(choice.images_file)
    attacked = first_images(choice)
    shown = [str(image_id) for image_id in attacked["image_id"].to_pylist()]
    clean = _clean_images(choice.images_file, shown)
    said = predictions(choice, shown)
    cards = []
    pictures = store.images_of(attacked)
    rows = attacked.drop_columns(["image"]).to_pylist()
    for i, row in enumerate(rows):
        cards.append(_card(row, clean[row["image_id"]], pictures[i], said, names, choice, save, i))
    shape = pictures.shape[2:]
    return {
        "attack": choice.attack,
        "model": choice.model,
        "intro": _intro(choice, len(cards)),
        "floor": FLOOR,
        "noise": f"{share_above(np.ones(shape)):.0%}",
        "cards": cards,
    }


def first_images(choice: Choice) -> pa.Table:
    """Return the records of the first images of the dataset, at the bound asked for.

    Raises:
        ValueError: the files hold no row.
    """
    kinds: dict[float, None] = {}
    for path in choice.adversarial:
        for batch in store.batches(path, store.TAKEN_AT_ONCE, ["epsilon"]):
            kinds |= dict.fromkeys(batch["epsilon"].unique().drop_null().to_pylist())
    bounds = [bound for bound in kinds if not math.isnan(bound)]
    wanted = None
    if bounds:
        near = [bound for bound in bounds if np.isclose(bound, choice.epsilon)]
        wanted = near[0] if near else max(bounds)
    each = math.ceil(choice.images / len(choice.adversarial))
    shards = [_first_rows(path, each, wanted) for path in choice.adversarial]
    if not any(shards):
        raise ValueError(f"no image of {choice.attack!r} is in {list(choice.adversarial)}")
    # Shards take the images of a dataset in turns.
    turns = np.concatenate([np.arange(sum(map(len, shard))) for shard in shards])
    order = np.argsort(turns, kind="stable")[: choice.images]
    return pa.concat_tables([table for shard in shards for table in shard]).take(order)


def _first_rows(path: str, count: int, wanted: float | None) -> list[pa.Table]:
    """Return the first rows of an adversarial file at a bound, where there is one, in parts."""
    found: list[pa.Table] = []
    for batch in store.batches(path, BATCH):
        if wanted is not None:
            batch = batch.filter(pc.equal(batch["epsilon"], wanted))
        # A slice would keep all of the batch in memory.
        part = batch.take(np.arange(min(count, len(batch))))
        count -= len(part)
        if len(part):
            found.append(part)
        if not count:
            break
    return found


def _clean_images(path: str | os.PathLike[str], wanted: Sequence[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for batch in store.batches(path, BATCH, ["image_id", "image"]):
        chosen = batch.filter(pc.is_in(batch["image_id"], pa.array(wanted)))
        if len(chosen):
            ids = chosen["image_id"].to_pylist()
            found.update(zip(ids, store.images_of(chosen), strict=True))
        if len(found) == len(wanted):
            break
    return found


# What the defences predict

Said = dict[tuple[str, str, str], list[int]]
"""Predictions of all draws by defence, 'clean' or 'attacked', and image."""


def predictions(choice: Choice, images: Sequence[str]) -> Said:
    """Return what each defence predicts for each of some images, in each of its draws."""
    said: Said = {}
    for place, paths in (("clean", choice.clean), ("attacked", choice.attacked)):
        if paths:
            frame = _read(paths, images, ["radius", "directions"])
            main = np.isclose(frame["radius"], choice.radius)
            frame = frame[main & (frame["directions"] == choice.directions)]
            title = f"post-averaging (r = {number(choice.radius)}, K = {choice.directions})"
            _collect(said, _at_bound(frame, choice.epsilon), title, place)
    if choice.controls:
        frame = _read(choice.controls, images, ["inputs", "control"])
        for place, inputs in (("clean", "clean"), ("attacked", choice.attack)):
            own = _at_bound(frame[frame["inputs"] == inputs], choice.epsilon)
            for control, rows in own.groupby("control", sort=False):
                shown = control == "undefended" or control == "post_averaging" and choice.clean
                if not shown:
                    _collect(said, rows, str(control), place)
    return said


def _read(paths: Sequence[str], images: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return what files say of some images at each bound, with further columns."""
    names = ["image_id", "epsilon", "prediction", *columns]
    wanted = pa.array(images, pa.string())
    own = store.schema(paths[0])
    found = [pa.schema([own.field(name) for name in names]).empty_table()]
    for path in paths:
        for batch in store.batches(path, store.TAKEN_AT_ONCE, names):
            found.append(batch.filter(pc.is_in(batch["image_id"], wanted)))
    return pa.concat_tables(found).to_pandas()


def _at_bound(frame: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Return the rows at a bound, or at the largest if there are none, and rows without a bound."""
    bounds = frame["epsilon"].dropna()
    if not len(bounds):
        return frame
    near = np.isclose(frame["epsilon"].astype(float), epsilon)
    chosen = near if near.any() else frame["epsilon"] == bounds.max()
    return frame[chosen | frame["epsilon"].isna()]


def _collect(said: Said, rows: pd.DataFrame, defense: str, place: str) -> None:
    for image_id, prediction in zip(rows["image_id"], rows["prediction"], strict=True):
        said.setdefault((defense, place, str(image_id)), []).append(int(prediction))


def own_names(images_file: str | os.PathLike[str]) -> Callable[[int], str]:
    """Return a function that names a class of one's own data by its folder, else by its number.

    Images from folders are named 'folder/file'; a class of several folders keeps its number.
    """
    found: dict[int, set[str]] = {}
    for batch in store.batches(images_file, store.TAKEN_AT_ONCE, ["image_id", "label"]):
        ids, labels = (batch[name].to_pylist() for name in ("image_id", "label"))
        for image_id, label in zip(ids, labels, strict=True):
            found.setdefault(label, set()).add(image_id.rpartition("/")[0].partition("/")[0])
    known = {label: next(iter(names)) for label, names in found.items() if len(names) == 1}
    return lambda label: known.get(label) or f"class {label}"


def class_names(source: str) -> Callable[[int], str]:
    """Return a function that names a class, by its number if the source's classes have no names.

    Args:
        source: a registered one; a name of one's own means nothing here.
    """
    known: Sequence[str] = next((v for k, v in CLASSES.items() if source.startswith(k)), ())
    if source.startswith("imagenet"):
        # This import takes seconds, and only pictures of ImageNet need it.
        from torchvision.models import ResNet18_Weights

        known = ResNet18_Weights.DEFAULT.meta["categories"]

    def name(label: int) -> str:
        return known[label] if 0 <= label < len(known) else f"class {label}"

    return name


def verdict(draws: Sequence[int], label: int, names: Callable[[int], str]) -> str:
    """Return a prediction in words: right or wrong, the class, and how many draws agree on it.

    >>> verdict([3, 3, 5], 3, str)
    '✓ right: 3 (2 of 3 draws)'
    """
    if not draws:
        return "–"
    most, times = Counter(draws).most_common(1)[0]
    often = f" ({times} of {len(draws)} draws)" if len(draws) > 1 else ""
    return f"{RIGHT if most == label else WRONG}: {names(most)}{often}"


# Pictures


def magnification(perturbation: np.ndarray) -> int:
    """Return a round factor (1, 2 or 5 times a power of ten) that shows a perturbation well.

    The largest that keeps its greatest change within half the range of a pixel.

    >>> magnification(np.array([0.03, -0.001])), magnification(np.array([0.5]))
    (10, 1)
    """
    room = 0.5 / max(float(np.abs(perturbation).max()), 1e-6)
    steps = [m * 10**e for e in range(7) for m in (1, 2, 5)]
    return max((step for step in steps if step <= room + 1e-9), default=1)


def power(perturbation: np.ndarray) -> np.ndarray:
    """Return the power of a perturbation (C x H x W) by frequency, mean over channels, centred."""
    return np.asarray((arrays.magnitudes(perturbation.astype(np.float64)) ** 2).mean(axis=0))


def spectrum_picture(power_by_frequency: np.ndarray) -> np.ndarray:
    """Return a centred spectrum as a grey picture (H x W, uint8) in decibels below its maximum."""
    relative = np.maximum(power_by_frequency / power_by_frequency.max(), 10 ** (-FLOOR / 10))
    return np.rint(255 * (1 + 10 * np.log10(relative) / FLOOR)).astype(np.uint8)


def share_above(power_by_frequency: np.ndarray, limit: float = HIGH) -> float:
    """Return the share of a centred spectrum's power at more than `limit` cycles per pixel."""
    high = arrays.frequencies(power_by_frequency.shape) > limit
    return float(power_by_frequency[high].sum() / power_by_frequency.sum())


def to_picture(image: np.ndarray) -> Image.Image:
    """Return an image (C x H x W in [0, 1], or H x W uint8) as a picture of 8 bits."""
    if image.dtype != np.uint8:
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if image.ndim == 2:
        return Image.fromarray(image)
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def encoded(picture: Image.Image) -> bytes:
    """Return a picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """Return a PNG as the source of an `img` element, so that it is embedded in the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _card(
    row: Mapping[str, Any],
    clean: np.ndarray,
    attacked: np.ndarray,
    said: Said,
    names: Callable[[int], str],
    choice: Choice,
    save: Save,
    i: int,
) -> dict[str, Any]:
    """Return what the page says about one image."""
    image_id, label = str(row["image_id"]), int(row["label"])
    exact = clean.astype(np.float64) / 255
    change = attacked.astype(np.float64) - exact

    def panel(image: np.ndarray, name: str, caption: str, alt: str) -> dict[str, Any]:
        picture = to_picture(image)
        size = {"width": picture.width, "height": picture.height}
        return {"source": save(picture, f"{i:03d}_{name}"), "caption": caption, "alt": alt, **size}

    before = verdict([row["prediction_before"]], label, names)
    panels = [panel(exact, "clean", "clean", f"Clean image {image_id}, {names(label)}")]
    card: dict[str, Any] = {"image_id": image_id, "label": names(label), "panels": panels}
    if row["success"] and change.any():
        factor, by_frequency = magnification(change), power(change)
        after = verdict([row["prediction_after"]], label, names)
        high = f"{share_above(by_frequency):.0%}"
        panels += [
            panel(
                0.5 + factor * change,
                "perturbation",
                f"perturbation × {factor}",
                f"Perturbation of {image_id}, magnified {factor} times about mid-grey",
            ),
            panel(attacked, "adversarial", "adversarial", f"Adversarial image: {after}"),
            panel(
                spectrum_picture(by_frequency),
                "spectrum",
                f"spectrum, {FLOOR} dB",
                f"Power spectrum of the perturbation, {high} of its energy at high frequencies",
            ),
        ]
        steps = int(row["steps"])
        beyond = row["linf"] > choice.epsilon * (1 + 1e-6)
        card |= {
            "before": before,
            "after": after,
            "linf": f"{row['linf'] * 255:.2f}",
            "l2": f"{row['l2']:.3f}",
            "steps": f"{steps} {'step' if steps == 1 else 'steps'}",
            "high": high,
            "beyond": f" Beyond {number(choice.epsilon * 255)}/255." if beyond else "",
        }
    else:
        reason = REASONS.get(row["status"], f"No adversarial image: {row['status']}.")
        card["reason"] = f"{reason} Without a defence: {before}."
    card["defenses"] = [
        {
            "name": defense.replace("_", " "),
            "clean": verdict(said.get((defense, "clean", image_id), []), label, names),
            "attacked": verdict(said.get((defense, "attacked", image_id), []), label, names),
        }
        for defense in dict.fromkeys(defense for defense, _, _ in said)
        if {(defense, "clean", image_id), (defense, "attacked", image_id)} & said.keys()
    ]
    asked = [row["attacked"] for row in card["defenses"] if row["attacked"] != "–"]
    card["heading"] = "What each defence says"
    if asked:
        right = sum(text.startswith(RIGHT) for text in asked)
        card["heading"] += f": {right} of {len(asked)} are right on the adversarial image"
    return card


def _intro(choice: Choice, count: int) -> str:
    bound = f"{number(choice.epsilon * 255)}/255"
    return (
        f"The first {count} images of {choice.dataset} in the records of this attack, in the order "
        f"of the records and not selected by outcome. Pictures are shown in 8 bits; norms are of "
        f"the exact values, with pixels in [0, 1]. For a defence that draws at random, the most "
        f"common prediction is shown, and how many draws agree. A dash means that the run has no "
        f"prediction: controls are evaluated only on minimal attacks within {bound}."
    )
