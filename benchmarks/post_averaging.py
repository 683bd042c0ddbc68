"""Post-averaging side by side with the plain published procedure, on equal directions.

The plain procedure is a loop over images with 6K+1 samples in a batch, in float32, through the
network as published (BatchNorm not folded). Each repetition runs all variants in turn, so that a
machine whose speed drifts slows them alike; ratios are taken within a repetition.

    python benchmarks/post_averaging.py --model results/models/M.safetensors \
        --dataset results/datasets/D.parquet --radius 6
"""

import argparse
import json
import platform
import statistics
import time

import numpy as np
import safetensors
import safetensors.torch
import torch

from bandlimit.data import stream
from bandlimit.defenses import prediction, sweep
from bandlimit.defenses.base import DrawName
from bandlimit.models import architectures, classifier
from bandlimit.models.device import choose_device
from bandlimit.models.fused import evaluator

NAME = DrawName(seed=0, purpose="benchmark", dataset="benchmark", model="benchmark")


def published_network(path, device):
    """Return the network of a model file as its authors run it, and its mean and std."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    shape = json.loads(metadata["shape"])
    network = architectures.build(
        metadata["architecture"], classes=int(metadata["classes"]), channels=shape[0]
    )
    network.load_state_dict(safetensors.torch.load_file(path), strict=False)
    return network.eval().requires_grad_(False).to(device)


@torch.no_grad()
def plain(network, model, images, ids, setting):
    """Return the predictions of the plain procedure."""
    predictions = []
    for image, image_id in zip(images, ids, strict=True):
        u = (image.unsqueeze(0).to(model.mean.device) - model.mean) / model.std
        v = sweep.draw_directions(image.unsqueeze(0), [image_id], setting.directions, NAME, 0)[0]
        v = v.to(u.device)
        samples = [u]
        for step in sweep.steps(setting.radius):
            samples += [u + step * v, u - step * v]
        output = torch.softmax(network(torch.cat(samples)), dim=1).mean(dim=0)
        predictions.append(int(output.argmax()))
    return np.array(predictions)


def main():
    """Time the variants and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--radius", type=float, required=True)
    parser.add_argument("--directions", type=int, default=15)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--sweep-images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    device = choose_device(options.device)
    model = classifier.load(options.model, options.device)
    published = published_network(options.model, device)
    ids, labels, images = stream.load(options.dataset)
    ids, labels, images = (part[: options.images] for part in (ids, labels, images))
    setting = sweep.Setting(options.radius, options.directions)
    networks = {"float32": evaluator(model), "bfloat16": evaluator(model, bfloat16=True)}

    def everything(kind):
        (found,) = sweep.sweep(model, networks[kind], images, ids, labels, [setting], name=NAME)
        return found.prediction, 6 * options.directions + 1

    def stopped(kind, stop):
        found = prediction.predict(
            model, networks[kind], images, ids, setting, name=NAME, stop=stop
        )
        return found.prediction, found.samples.mean()

    variants = {
        "plain loop, float32": lambda: (
            plain(published, model, images, ids, setting),
            6 * options.directions + 1,
        ),
        "all samples, float32": lambda: everything("float32"),
        "all samples, bfloat16": lambda: everything("bfloat16"),
        "exact stop, float32": lambda: stopped("float32", "exact"),
        "exact stop, bfloat16": lambda: stopped("bfloat16", "exact"),
        "sequential test (error 1e-3), float32": lambda: stopped("float32", "sequential"),
        "sequential test (error 1e-3), bfloat16": lambda: stopped("bfloat16", "sequential"),
    }
    few = slice(0, options.sweep_images)
    radii = [options.radius * share for share in (1 / 6, 1 / 3, 1 / 2, 2 / 3, 1, 4 / 3, 5 / 3, 2)]
    grid = sorted(
        {sweep.Setting(radius, options.directions) for radius in radii}
        | {sweep.Setting(options.radius, k) for k in (6, 15, 30, 60)}
    )

    def one_pass(settings):
        list(
            sweep.sweep(
                model, networks["float32"], images[few], ids[few], labels[few], settings, name=NAME
            )
        )

    sweeps = {
        "separate runs, plain loop": lambda: [
            plain(published, model, images[few], ids[few], one) for one in grid
        ],
        "separate runs, this engine": lambda: [one_pass([one]) for one in grid],
        "one pass": lambda: one_pass(grid),
    }

    def timed(function):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        result = function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, result

    for function in (*variants.values(), *sweeps.values()):
        function()  # warm up
    seconds = {name: [] for name in (*variants, *sweeps)}
    results = {}
    for _ in range(options.repeats):
        for name, function in (variants | sweeps).items():
            spent, results[name] = timed(function)
            seconds[name].append(spent)

    def ratio(name, base):
        values = [b / a for a, b in zip(seconds[name], seconds[base], strict=True)]
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    print(
        f"{len(ids)} images, r = {options.radius}, K = {options.directions}, {options.repeats} "
        f"repetitions, {device.type} {name}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}\n"
    )
    base = "plain loop, float32"
    print("| variant | ms per image | times as fast (min to max) | samples | predictions changed |")
    print("|---|--:|--:|--:|--:|")
    for variant in variants:
        changed = int((results[variant][0] != results[base][0]).sum())
        print(
            f"| {variant} | {1e3 * statistics.median(seconds[variant]) / len(ids):.1f} | "
            f"{ratio(variant, base)} | {results[variant][1]:.1f} | {changed} of {len(ids)} |"
        )
    print(
        f"\n{len(grid)} settings (radii of Figure 2, directions of Table 2), "
        f"{options.sweep_images} images\n"
    )
    print("| variant | ms per image | times as fast (min to max) |")
    print("|---|--:|--:|")
    base = "separate runs, plain loop"
    for variant in sweeps:
        print(
            f"| {variant} | {1e3 * statistics.median(seconds[variant]) / options.sweep_images:.1f}"
            f" | {ratio(variant, base)} |"
        )


if __name__ == "__main__":
    main()
