"""Kinds of defence and the names of their parameters, for code that only checks a configuration.

Imports nothing, since every start of the workflow pays for it.
"""

from __future__ import annotations

PARAMETERS: dict[str, frozenset[str]] = {
    "undefended": frozenset(),
    "post_averaging": frozenset(
        {"radius", "directions", "draws", "vote", "sampler", "sign", "space", "center", "clip"}
    ),
    "low_pass": frozenset({"cutoff"}),
    "smoothed_kernels": frozenset({"rho", "normalize"}),
    "rounding": frozenset({"levels"}),
    "flip": frozenset(),
    "shift": frozenset({"pixels", "direction"}),
    "jpeg": frozenset({"quality"}),
    "noise": frozenset({"radius"}),
    "other_model": frozenset({"model"}),
    "python": frozenset({"source", "random", "parameters", "files"}),
}
"""What a configured defence may state besides its kind, by kind.

Radius and directions are those of the experiment where they are not stated; only the cutoff, rho,
the other model and the source have no default.
"""

REQUIRED: dict[str, frozenset[str]] = {
    "low_pass": frozenset({"cutoff"}),
    "smoothed_kernels": frozenset({"rho"}),
    "other_model": frozenset({"model"}),
    "python": frozenset({"source"}),
}
"""What it must state, by kind."""

SOURCES = ("undefended", "other_model")
"""Kinds of defence whose adversarial images are also tried on every other: transfer."""

TRANSFORMS = ("low_pass", "rounding", "flip", "shift", "jpeg", "noise", "python")
"""Kinds of defence that transform the input, where an attack may use the identity's gradient; code
of the user's own may do that or not, so what it hands to its classifier counts as its input."""

FILTERS = ("low_pass",)
"""Kinds of defence that let a band of frequencies pass, to which an attack may keep."""

GROUPS = ("random", "deterministic", "transforms", "filters")
"""Words for all examined defences that draw, that don't, that are `TRANSFORMS`, or `FILTERS`."""

OF_LOGITS = ("approximate", "last_layer")
"""Samplers of post-averaging that choose among the hyperplanes of the last layer, one a class."""

JPEG_CHANNELS = (1, 3)
"""Channels of images that JPEG knows."""

WITHOUT_CONVOLUTION = ("two_layer", "fully_connected")
"""Architectures without a convolution, and so without kernels to smooth."""
