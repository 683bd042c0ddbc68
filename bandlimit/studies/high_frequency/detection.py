"""Objects that a detector finds in images, and in their low and high frequencies.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", section 7: RetinaNet with ResNet-50 and FPN on the validation set of COCO, at the radius
128. Images differ in size, and frequencies are those of the whole image at its own size, in periods
per side.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from bandlimit import keys
from bandlimit.data import downloads
from bandlimit.errors import UserError
from bandlimit.models import weights
from bandlimit.spectral import components
from bandlimit.studies.high_frequency.settings import DETECTOR_SHA256

COMPONENTS = ("full", "low", "high")
"""The image itself, and its parts within and beyond a radius."""

SCALES = ("none", "maximum")
"""How a part becomes an image: clipped to [0, 1], or divided by its own maximum."""

CLASSES = 91
"""Outputs of those weights: ids of COCO's categories, with gaps, and 0."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("component", pa.string()),
        ("category_id", pa.int64()),
        ("score", pa.float64()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("width", pa.float64()),
        ("height", pa.float64()),
    ]
)
"""A row for each box that is found; boxes in pixels of the image, scores in [0, 1]."""


def component(
    x: Tensor, name: str, radius: float | None, *, strict: bool = True, scale: str = "none"
) -> Tensor:
    """Return a component of an image, of its size, float32.

    The document's published program divides each part by its own maximum and keeps what is below
    0; how the images of its section 7 were scaled, neither says. Clipping brings back a little of
    what was filtered out.

    Args:
        x: image, C x H x W, in [0, 1].
        name: of `COMPONENTS`; 'full' is the image as it is.
        radius: of the disk of low frequencies, in periods per side; not used by 'full'.
        strict: whether the border of the disk is left out, as in the document's program; its eq. 1
            has it inside.
        scale: of `SCALES`: 'none' clips to [0, 1]; 'maximum' divides by the maximum over pixels and
            channels, where that is above 0, and does not clip.

    Raises:
        ValueError: the name or the scale is none of those, or a part has no radius.
    """
    if name not in COMPONENTS or scale not in SCALES:
        raise ValueError(f"known are {COMPONENTS} and {SCALES}, got {name!r} and {scale!r}")
    if name == "full":
        return x.float()
    if radius is None:
        raise ValueError(f"the component {name!r} needs a radius")
    (part,) = components.component(
        x.double()[None], part=name, radius=radius, strict=strict, scale=scale
    )
    return (part.clamp(0, 1) if scale == "none" else part).float()


def build(
    weights_path: str | os.PathLike[str] | None = None,
    *,
    sha256: str = DETECTOR_SHA256,
    classes: int = CLASSES,
    seed: int | None = None,
) -> RetinaNet:
    """Return RetinaNet ResNet50-FPN as torchvision builds it for its COCO weights, for inference.

    Args:
        weights_path: a file of weights; it is opened only after its checksum was verified, and
            without running code in it.
        sha256: of the file, 64 hexadecimal digits or the first 8 of them.
        classes: number of outputs.
        seed: draws random weights in place of a file; torch's own generator is left as it is.

    Raises:
        UserError: the file is missing, has another checksum, or holds weights of another detector.
        ValueError: not exactly one of `weights_path` and `seed` is given.
    """
    if (weights_path is None) == (seed is None):
        raise ValueError("a detector needs either a file of weights or a seed")
    if weights_path is not None:
        downloads.verify(weights_path, sha256)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if seed is None else keys.derive(seed, "initial_weights", "retinanet"))
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50",
            weights=None,
            # Trained without the small number in the denominator.
            norm_layer=partial(FrozenBatchNorm2d, eps=0.0),
            trainable_layers=5,
            returned_layers=[2, 3, 4],
            extra_blocks=LastLevelP6P7(256, 256),
        )
        detector = RetinaNet(backbone, classes)
    if weights_path is not None:
        try:
            # Not by `weights.check_fit`: torchvision renames the parameters of older files here.
            detector.load_state_dict(weights.read_weights(weights_path))
        except RuntimeError as error:
            first = str(error).splitlines()[1:2] or [str(error)]
            raise UserError(
                f"The file {str(weights_path)!r} holds weights of another detector than RetinaNet "
                f"ResNet50-FPN of {classes} classes: {first[0].strip()[:200]}"
            ) from error
    return detector.eval().requires_grad_(requires_grad=False)


@torch.inference_mode()
def detections(
    detector: RetinaNet,
    images: Iterable[tuple[int, Tensor]],
    name: str,
    *,
    radius: float | None = None,
    strict: bool = True,
    scale: str = "none",
    device: torch.device | str = "cpu",
) -> Iterator[pa.Table]:
    """Yield what a detector finds in a component of each image, a table of `SCHEMA` at a time.

    An image in which nothing is found gives a table without rows. Images pass one by one, so the
    rows of one don't depend on others.

    Args:
        detector: as `build` gives it; it is moved to the device.
        images: ids and pixels, C x H x W in [0, 1].
        name: the component; this and the next three as in `component`.
        radius: as in `component`.
        strict: as in `component`.
        scale: as in `component`.
        device: where the detector runs; components are taken on the CPU, alike for all devices.
    """
    detector = detector.to(device).eval()
    for image_id, x in images:
        part = component(x, name, radius, strict=strict, scale=scale)
        (found,) = detector([part.to(device)])
        height, width = x.shape[-2:]
        # Boxes lie inside the image as the detector scaled it; scaled back they may miss by a bit.
        limit = torch.tensor([width, height, width, height], dtype=torch.float64)
        boxes = found["boxes"].cpu().double().clamp(min=0).minimum(limit)
        count = len(boxes)
        yield pa.table(
            {
                "image_id": [image_id] * count,
                "component": [name] * count,
                "category_id": found["labels"].tolist(),
                "score": found["scores"].double().tolist(),
                "x": boxes[:, 0].tolist(),
                "y": boxes[:, 1].tolist(),
                "width": (boxes[:, 2] - boxes[:, 0]).tolist(),
                "height": (boxes[:, 3] - boxes[:, 1]).tolist(),
            },
            schema=SCHEMA,
        )
