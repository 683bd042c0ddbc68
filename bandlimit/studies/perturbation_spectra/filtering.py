"""Accuracy behind a low-pass filter, cut-off by cut-off.

Source: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", section 4.3 and figure
6, where the attacker does not know of the filter. The attack through the filter is ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from bandlimit import keys
from bandlimit.attacks.base import device_of, exact_arithmetic, sound
from bandlimit.attacks.records import Batch
from bandlimit.defenses.transforms import LowPass
from bandlimit.files import store
from bandlimit.models.classifier import Classifier
from bandlimit.spectral import fourier, masks
from bandlimit.training.perturbations import Perturbation

BATCH = 128

INPUTS = ("clean", "unaware", "aware")
"""The images as they are, attacked without knowledge of the filter, and attacked through it."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.int64()),
        ("inputs", pa.string()),
        ("cutoff", pa.float64()),
        ("prediction", pa.int64()),
        ("correct", pa.bool_()),
    ]
)
"""A row per image, kind of input and cut-off; without a filter the cut-off is null."""


def perturbed(path: str | os.PathLike[str], attack: str) -> Iterator[tuple[str, Tensor]]:
    """Yield id and pixels of each image that an attack has perturbed, in order."""
    for table in store.batches(path, BATCH, ["perturbation", "image_id", "image"]):
        images = store.images_of(table)
        names = table["perturbation"].to_pylist()
        for row, image_id in enumerate(table["image_id"].to_pylist()):
            if names[row] == attack:
                yield image_id, torch.from_numpy(images[row].copy())


def evaluate(
    model: Classifier,
    batches: Iterable[Batch],
    attacked: Iterable[tuple[str, Tensor]],
    *,
    cutoffs: Sequence[float],
    epsilon: float,
    steps: int,
    rel_stepsize: float,
    loss: str,
    seed: int,
    dataset: str,
    model_name: str,
) -> Iterator[pa.Table]:
    """Yield what a model predicts behind each filter, a table per batch.

    The attack through a filter is PGD from a random start on the filtered network; its gradient is
    exact, since the filter is linear.

    Args:
        model: pixels in [0, 1] to logits.
        batches: image ids, labels, images.
        attacked: the same images after an attack on the model without a filter, in order.
        cutoffs: of the filters, in periods per side.
        epsilon: l_inf bound of the attack through the filter.
        steps: of that attack.
        rel_stepsize: of a step, in epsilon.
        loss: that the model was trained by, cross_entropy or mse.
        seed: keys the start of that attack, with the names and the image id.
        dataset: name of the dataset.
        model_name: name of the model.

    Yields:
        Tables of `SCHEMA`.

    Raises:
        ValueError: the attacked images are others, or stand in another order.
    """
    device = device_of(model)
    filters = {cutoff: LowPass(model, cutoff=cutoff).to(device) for cutoff in cutoffs}
    # The same attack as without the filter, so that knowing of it is all the difference.
    attack = Perturbation(
        kind="pgd_linf", epsilon=epsilon, steps=steps, rel_stepsize=rel_stepsize, loss=loss
    )
    names = ("low-pass start", dataset, model_name)
    others = iter(attacked)
    for image_ids, labels, images in batches:
        found = [next(others, ("", images[0])) for _ in image_ids]
        if [name for name, _ in found] != list(image_ids):
            raise ValueError("the attacked images are others than those of the dataset")
        labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        images = images.to(device)
        changed = torch.stack([image for _, image in found]).to(device)
        unit = torch.stack([_start(seed, names, image_id, images) for image_id in image_ids])
        with exact_arithmetic():
            predicted: list[tuple[str, float | None, Tensor, torch.nn.Module]]
            predicted = [("clean", None, images, model), ("unaware", None, changed, model)]
            for cutoff, defense in filters.items():
                through = attack.of(_Filtered(model, cutoff), images, labels, unit)
                predicted += [
                    ("clean", cutoff, images, defense),
                    ("unaware", cutoff, changed, defense),
                    ("aware", cutoff, through.clamp(0, 1), defense),
                ]
            tables = [_table(image_ids, labels, *each) for each in predicted]
        yield pa.concat_tables(tables)


def _start(seed: int, names: Sequence[str], image_id: str, images: Tensor) -> Tensor:
    """Return the start of the attack on an image, uniform in [-1, 1), of its own key."""
    generator = keys.generator(seed, *names, image_id, 0)
    return (torch.rand(images.shape[1:], generator=generator) * 2 - 1).to(images.device)


@torch.no_grad()
def _table(
    image_ids: Sequence[str],
    labels: Tensor,
    inputs: str,
    cutoff: float | None,
    images: Tensor,
    network: torch.nn.Module,
) -> pa.Table:
    """Return what a network says of a batch; no answer, where a logit is not finite, is wrong."""
    logits = network(images)
    predicted = logits.argmax(dim=1)
    return pa.Table.from_pydict(
        {
            "image_id": list(image_ids),
            "label": labels.tolist(),
            "inputs": [inputs] * len(image_ids),
            "cutoff": [cutoff] * len(image_ids),
            "prediction": predicted.tolist(),
            "correct": ((predicted == labels) & sound(logits)).tolist(),
        },
        schema=SCHEMA,
    )


class _Filtered(torch.nn.Module):
    """The filter and the network behind it, all images of a batch transformed at once.

    An attack only needs a good gradient; what it finds is judged by the defence itself.
    """

    def __init__(self, model: Classifier, cutoff: float) -> None:
        super().__init__()
        self.model = model
        disk = fourier.uncentred(masks.disk(model.shape[1:], cutoff))
        self.register_buffer("passed", disk.to(model.mean))
        self.eval()

    passed: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of filtered images."""
        logits: Tensor = self.model(fourier.filtered(x, self.passed))
        return logits
