"""Names of architectures, for code that only checks a configuration.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from bandlimit.errors import UserError, suggest
from bandlimit.files import own_code

NO_BATCHNORM = "_no_batchnorm"
"""End of the names of architectures that are there with BatchNorm and without."""

SMALL_RESNETS = {
    **{f"cifar_resnet{depth}": (depth, 1) for depth in (20, 32, 44, 56, 110)},
    "strided_resnet8": (8, 2),
}
"""Depth and stride of the first convolution."""

TORCHVISION = ("resnet50", "resnet152", "vgg16", "vgg16_bn")
"""Networks of torchvision that have names here, from before its others could be named."""

ARCHITECTURES: tuple[str, ...] = (
    *SMALL_RESNETS,
    *(name + NO_BATCHNORM for name in SMALL_RESNETS),
    "small_cnn",
    "small_cnn_no_batchnorm",
    "two_layer",
    "fully_connected",
    "lenet",
    "cifar_alexnet",
    "cifar_vgg11",
    *TORCHVISION,
    "efficientnet_lite0",
)
"""The names that the project has of its own."""

LIBRARIES = ("torchvision", "timm")
"""Packages whose networks are named 'package:name'."""


def library(architecture: str) -> tuple[str, str] | None:
    """Return the package and the name of a network that comes from one, else None."""
    package, colon, name = architecture.partition(":")
    return (package, name) if colon and package in LIBRARIES else None


def check_architecture(architecture: str, place: str) -> None:
    """Check that an architecture is one that can be built; what a package has, it says itself.

    Args:
        architecture: a name of `ARCHITECTURES`, 'torchvision:NAME', 'timm:NAME', or
            'path/to/file.py:build'.
        place: where the configuration has it, for errors.

    Raises:
        UserError: it is none of these, or the file is not there or does not define the name.
    """
    if architecture in ARCHITECTURES or library(architecture):
        return
    if own_code.is_source(architecture):
        own_code.files(architecture, place)
        return
    # People know the small ResNets of CIFAR by their plain names.
    longer = [name for name in ARCHITECTURES if name.endswith(f"_{architecture}")]
    told = f"did you mean {longer[0]!r}? " if longer else ""
    raise UserError(
        f"{place} is {architecture!r}, which is no architecture; {told}"
        f"{suggest(architecture, ARCHITECTURES) if not longer else 'allowed: those of the project'}"
        ", 'torchvision:NAME', 'timm:NAME' or 'path/to/file.py:build'."
    )


def own_files(architecture: str, place: str) -> dict[str, str]:
    """Return the files of code that an architecture of the user's own consists of, else none."""
    return own_code.files(architecture, place) if own_code.is_source(architecture) else {}
