"""How fast attacks are here, beside the plain Foolbox loop on the same network.

Two attacks: PGD on the undefended network, and EOT-PGD on post-averaging. The plain side is
Foolbox's loop over the network as it was trained: BatchNorm not folded, frozen, all images in one
batch, in a process as anyone starts it. The other side is what a job of the workflow does. Both
take the same steps from the same start, and take turns within each repetition. A third side is the
plain one with the memory settings of a job (`bandlimit.provenance.job.keep_memory`).

    python benchmarks/attacks.py --model results/models/M.safetensors \
        --dataset results/datasets/D.parquet --radius 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIDES = ("plain", "plain, memory kept", "here")

ATTACKS = ("PGD, 40 steps", "EOT-PGD, 20 steps of 8 samples")


def work(side: str, options: argparse.Namespace, line: Connection) -> None:
    """Answer (attack, threads) with the seconds of a run, and what it found, until told to end."""
    import numpy as np
    import torch
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel

    from bandlimit.provenance.job import keep_memory
    from bandlimit.attacks.adaptive.base import Target, first_draw
    from bandlimit.attacks.adaptive.gradient import EOTPGD
    from bandlimit.attacks.base import exact_arithmetic
    from bandlimit.attacks.fixed import PGD
    from bandlimit.data import stream
    from bandlimit.defenses.base import DrawName
    from bandlimit.defenses.post_averaging import post_averaging
    from bandlimit.models import classifier as classifiers
    from bandlimit.models.weights import empty_network, read_safetensors
    from bandlimit.training.perturbations import KeyedStart

    if side != "plain":
        keep_memory()
    made = classifiers.load(options.model)
    model = made
    if side != "here":
        state, metadata = read_safetensors(Path(options.model))
        network = empty_network(
            metadata["architecture"], classes=made.classes, channels=made.shape[0]
        )
        network.load_state_dict(state, assign=True)
        model = classifiers.Classifier(
            network,
            mean=json.loads(metadata["mean"]),
            std=json.loads(metadata["std"]),
            shape=made.shape,
            classes=made.classes,
        )
        model.eval().requires_grad_(False)
    ids, labels, images = next(stream.batches(options.dataset, options.images))
    name = DrawName(0, "benchmark", "d", "m")
    defense = post_averaging(model, radius=options.radius, directions=15, name=name)
    target = Target(defense, tuple(ids), images, labels, 0, ("a", "d", "d", "m"))
    unit = target.starts(0)

    def pgd() -> torch.Tensor:
        if side == "here":
            attack = PGD(steps=40)
            return attack.perturb(model, images, labels, target.noise, options.epsilon).images
        plain = KeyedStart(unit, rel_stepsize=0.1, steps=40)
        return plain.run(
            PyTorchModel(model, bounds=(0, 1)),
            images,
            Misclassification(labels),
            epsilon=options.epsilon,
        )

    def eot() -> torch.Tensor:
        attack = EOTPGD(steps=20, samples=8, rel_stepsize=0.25)
        if side == "here":
            return next(iter(attack.spend(target, options.epsilon))).images
        bound = defense.surrogate(8).bind(ids, first_draw(options.epsilon, 0))
        plain = KeyedStart(unit, rel_stepsize=0.25, steps=20)
        return plain.run(
            PyTorchModel(bound, bounds=(0, 1)),
            images,
            Misclassification(labels),
            epsilon=options.epsilon,
        )

    runs = dict(zip(ATTACKS, (pgd, eot), strict=True))
    while (asked := line.recv()) is not None:
        attack, threads = asked
        torch.set_num_threads(threads)
        start = time.perf_counter()
        if side == "here":
            with exact_arithmetic():
                found = runs[attack]()
        else:
            found = runs[attack]()
        seconds = time.perf_counter() - start
        with torch.no_grad():
            right = (made(found).argmax(dim=1) == labels).numpy()
        line.send((seconds, found.detach().numpy(), np.asarray(right)))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--radius", type=float, required=True)
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    lines = {}
    for side in SIDES:
        lines[side], other = context.Pipe()
        context.Process(target=work, args=(side, options, other), daemon=True).start()

    def ask(side: str, attack: str, threads: int) -> Any:
        lines[side].send((attack, threads))
        return lines[side].recv()

    print(
        f"{Path(options.model).stem}, {options.images} images, epsilon "
        f"{options.epsilon * 255:g}/255, {options.repetitions} repetitions, {platform.machine()}\n"
    )
    print("| attack | threads | side | seconds | times as fast (min to max) | equal | right |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for attack in ATTACKS:
        for threads in options.threads:
            found = {side: ask(side, attack, threads) for side in SIDES}  # warm
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            for _ in range(options.repetitions):
                for side in SIDES:
                    times[side].append(ask(side, attack, threads)[0])
            for side in SIDES:
                ratios = [a / b for a, b in zip(times["plain"], times[side], strict=True)]
                equal = float((found[side][1] == found["plain"][1]).mean())
                print(
                    f"| {attack} | {threads} | {side} | {statistics.median(times[side]):.2f} | "
                    f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
                    f"{equal:.2%} | {int(found[side][2].sum())} of {options.images} |"
                )
    for line in lines.values():
        line.send(None)


if __name__ == "__main__":
    main()
