"""Square and AutoAttack by the package pyautoattack, one image at a time.

The package draws from the global generator, in the shape of the batch that it attacks. So here each
image is attacked alone and with a seed of its own, and the global generators are restored: its
result does not depend on other images.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.square import SquareAttack

from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches

VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""The package's attacks that a version runs, in this order."""

COMPONENTS: dict[str, int] = {
    "apgd-ce": 2,
    "apgd-dlr": 3,
    "apgd-t": 4,
    "fab": 2,
    "fab-t": 2,
    "square": 2,
}
"""The package's attacks, and the least number of classes for which the loss of each exists."""

EOT = {"standard": 1, "rand": 20, "custom": 1}
"""Gradients that a step of AutoPGD averages, unless it is told otherwise."""

SPLIT_SUMS = 1 << 15
"""Numbers in an image from which the framework may split a sum among threads."""

_SILENT = logging.Logger("silent")
_SILENT.disabled = True  # the study's symptoms measure what it warns of, once and not per image


def square(
    model: torch.nn.Module,
    image: torch.Tensor,
    label: torch.Tensor,
    *,
    epsilon: float,
    seed: int,
    queries: int,
    p_init: float,
) -> torch.Tensor:
    """Attack one image (1 x C x H x W) by Square in l_inf; return its point of least margin.

    To be called within `alone`, as `autoattack` is.

    Args:
        model: pixels to logits or log-probabilities; it is asked for values only.
        image: in [0, 1].
        label: one class.
        epsilon: l_inf in [0, 1] pixels.
        seed: of all draws.
        queries: the most that it may ask.
        p_init: share of the pixels that the first square covers.
    """
    attack = SquareAttack(
        model,
        norm="Linf",
        # The first query is not counted there.
        n_queries=queries - 1,
        eps=epsilon,
        p_init=p_init,
        seed=seed,
        device=image.device,
    )
    attack.init_hyperparam(image)
    # Not `perturb`: it returns the clean image where one draw of the model misclassifies that, or
    # where what was found fooled one draw and not the next.
    torch.manual_seed(seed)
    found: torch.Tensor = attack.attack_single_run(image, label)[1]
    return found


def autoattack(
    model: torch.nn.Module,
    image: torch.Tensor,
    label: torch.Tensor,
    *,
    epsilon: float,
    seed: int,
    version: str,
    attacks: Sequence[str],
    steps: int,
    queries: int,
    targets: int,
    restarts: int,
    eot: int,
) -> torch.Tensor:
    """Attack one image (1 x C x H x W) by AutoAttack in l_inf; return what it found.

    Where it finds nothing, or does not begin because the clean image is misclassified already, the
    package returns the clean image. Here AutoPGD's point of greatest loss is returned then, if
    AutoPGD is among the attacks: under a defence that draws, one draw does not settle the matter.

    Args:
        model: pixels to logits or log-probabilities, differentiable.
        image: in [0, 1].
        label: one class.
        epsilon: l_inf in [0, 1] pixels.
        seed: of all draws.
        version: 'standard', 'rand' or 'custom'.
        attacks: of the package, for 'custom'.
        steps: of each run of AutoPGD and FAB.
        queries: of Square.
        targets: classes that the targeted attacks aim at, the likeliest ones.
        restarts: of AutoPGD and FAB.
        eot: gradients that a step of AutoPGD averages.
    """
    custom = {"attacks": list(attacks)} if version == "custom" else {}
    suite = AutoAttack(
        model, eps=epsilon, seed=seed, version=version, device=image.device, **custom
    )
    suite.verbose, suite.logger = False, _SILENT
    # Built once more, since the schedule of step sizes is laid out in the constructor.
    settings: dict[str, Any] = {
        "n_iter": steps,
        "n_restarts": restarts,
        "eps": epsilon,
        "seed": seed,
        "eot_iter": eot,
        "device": image.device,
        "logger": _SILENT,
    }
    suite.apgd = APGDAttack(model, **settings)
    suite.apgd_targeted = APGDAttack_targeted(model, n_target_classes=targets, **settings)
    suite.fab.n_iter, suite.fab.n_restarts, suite.fab.n_target_classes = steps, restarts, targets
    suite.square.n_queries = queries
    best: list[tuple[float, torch.Tensor]] = []
    run_once = suite.apgd.attack_single_run

    def remember(x: torch.Tensor, y: torch.Tensor, x_init: torch.Tensor | None = None) -> Any:
        point, accuracy, loss, adversarial = run_once(x, y, x_init)
        if suite.apgd.loss == losses[0]:
            best.append((float(loss), point.detach()))
        return point, accuracy, loss, adversarial

    suite.apgd.attack_single_run = remember
    losses = [name.removeprefix("apgd-") for name in attacks if name in ("apgd-ce", "apgd-dlr")]
    trace = sys.gettrace()
    try:
        found: torch.Tensor = suite.run_standard_evaluation(image, label, batch_size=1)[0]
    finally:
        sys.settrace(trace)  # one of its checks replaces the tracer, and removes its own
    if losses and torch.equal(found, image):
        if not best:
            suite.apgd.loss = losses[0]
            suite.apgd.init_hyperparam(image)
            torch.manual_seed(seed)
            remember(image, label)
        _, found = max(best, key=lambda item: item[0])
    return found


def check_attacks(version: str, attacks: Sequence[str], classes: int) -> None:
    """Check that the attacks of a version can be run against a model of so many classes.

    Raises:
        UserError: the loss of one of them needs more classes.
    """
    for name in attacks:
        if classes < COMPONENTS[name]:
            raise UserError(
                f"AutoAttack {version!r} runs {name!r}, whose loss needs {COMPONENTS[name]} "
                f"classes or more, but the defence has {classes}; attacks of the kinds 'eot_pgd' "
                "and 'square' need 2."
            )


@contextmanager
def alone(model: torch.nn.Module, image: torch.Tensor) -> Iterator[None]:
    """Prepare for the package's attack on one image; restore the global generators afterwards.

    Within the block micro-batches are no larger than what one image fills, or most of the work
    would be on padding; the model is called once to see how many samples it makes of an image. A
    large image is attacked on one thread, since the package's sums over it would otherwise depend
    on the number of threads.
    """
    batches = [module for module in model.modules() if isinstance(module, MicroBatches)]
    sizes = [module.size for module in batches]
    threads = torch.get_num_threads()
    devices = [image.device] if image.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            if image.numel() >= SPLIT_SUMS:
                torch.set_num_threads(1)
            for module, rows in zip(batches, _rows(model, batches, image), strict=True):
                module.size = math.ceil(rows / math.ceil(rows / module.size))
            yield
        finally:
            torch.set_num_threads(threads)
            for module, size in zip(batches, sizes, strict=True):
                module.size = size


def _rows(
    model: torch.nn.Module, batches: Sequence[MicroBatches], image: torch.Tensor
) -> list[int]:
    """Return how many images each network sees at once when the model sees one."""
    seen = [1] * len(batches)

    def note(place: int, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[place] = max(seen[place], len(inputs[0]))

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, place=place: note(place, inputs))
        for place, module in enumerate(batches)
    ]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
