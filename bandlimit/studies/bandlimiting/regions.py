"""Linear regions of ReLU networks: how many kinks a perturbation crosses, and their exact picture.

`count_crossings` counts, in any network, units whose pre-activation changes side between a clean
and a perturbed image (Bandlimiting, section 2.2). `slice_regions` and `crossings_on_segment` cut a
plane or a segment of the input space of a small fully connected network into its linear regions,
exactly (Bandlimiting, Figure 1); `figure_1` puts a trained network and an adversarial step
together. Tables are dicts of equally long lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bandlimit import keys
from bandlimit.errors import UserError, suggest
from bandlimit.models.batches import MicroBatches
from bandlimit.models.classifier import Classifier
from bandlimit.training import optimizers

Floats = NDArray[np.float64]
Table = dict[str, list[Any]]


def _append(table: Table, row: Sequence[Any]) -> None:
    for column, value in zip(table.values(), row, strict=True):
        column.append(value)


# Crossings in any network ------------------------------------------------------------------------

RELU = (
    functional.relu,
    functional.relu_,
    torch.relu,
    torch.relu_,
    torch.Tensor.relu,
    torch.Tensor.relu_,
)


def _argument(args: Any, kwargs: Any, position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


class _Sides(TorchFunctionMode):
    """Notes, at each ReLU or ReLU6 that runs, on which side of its kinks each unit stands.

    A mode sees modules, functions and methods alike (nn.ReLU calls functional.relu), also in a
    torch.fx GraphModule, and before an in-place ReLU overwrites its input. A side is 0 or 1 for
    ReLU (x > 0), and 0, 1 or 2 for ReLU6 (x > 0, x > 6).
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.sides: list[torch.Tensor] = []
        self.kinks: list[int] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in RELU:
            self._note(_argument(args, kwargs, 0, "input"), (0.0,))
        elif func is functional.relu6:
            self._note(_argument(args, kwargs, 0, "input"), (0.0, 6.0))
        elif func is functional.hardtanh or func is functional.hardtanh_:
            low = _argument(args, kwargs, 1, "min_val", -1.0)
            high = _argument(args, kwargs, 2, "max_val", 1.0)
            if (low, high) == (0.0, 6.0):
                self._note(_argument(args, kwargs, 0, "input"), (0.0, 6.0))
        return func(*args, **kwargs)

    def _note(self, value: torch.Tensor, kinks: tuple[float, ...]) -> None:
        # Rows beyond the images are the padding of a fixed micro-batch.
        values = value.detach()[: self.images]
        sides = (values > kinks[0]).to(torch.int8)
        for kink in kinks[1:]:
            sides += values > kink
        self.sides.append(sides.flatten(1))
        self.kinks.append(len(kinks))


def count_crossings(
    network: nn.Module,
    clean: torch.Tensor,
    perturbed: torch.Tensor,
    *,
    image_ids: Sequence[str],
    segments: int = 1,
    batch_size: int = 8,
) -> Table:
    """Count, per image and ReLU layer, the kinks between a clean and a perturbed image.

    A unit is crossed when its pre-activation is > 0 at one end and not at the other. This is a
    lower bound of the crossings on the straight way between them, as deeper hyperplanes are bent:
    `path` adds up the changes over `segments` equal parts of the way, and is >= `endpoint`. A
    ReLU6 unit has two kinks, at 0 and at 6, and both count. Kinks of max-pooling don't. Networks
    without ReLU or ReLU6 (of SiLU, say) have no kinks to count.

    Source: Bandlimiting, section 2.2 (VGG16, mean L2 <= 0.35: "about 5278 per layer", 0.58 %).
    The document has no definition; this one is ours.

    Args:
        network: any module that runs eagerly, in eval mode, as `clean` and `perturbed` need it:
            a Classifier for pixels in [0, 1], its `.network` for standardised input.
        clean: images, N x C x H x W (or N x d).
        perturbed: the same shape.
        image_ids: N names.
        segments: parts of the way, >= 1; 32 finds nearly all.
        batch_size: images per pass of a plain module. A Classifier and its network use their own
            micro-batches, so that no count depends on the other images.

    Returns:
        Table with columns image_id, layer (0 for the first ReLU that runs), units, kinks (units,
        or twice as many for ReLU6), endpoint, path; image by image, layers in order.

    Raises:
        UserError: the network runs no ReLU and no ReLU6.
        ValueError: shapes differ, segments < 1, layers change between passes, or `network` hides
            micro-batches inside another module.
    """
    if clean.shape != perturbed.shape or len(image_ids) != len(clean):
        raise ValueError(
            f"clean, perturbed and image_ids must agree, got {tuple(clean.shape)}, "
            f"{tuple(perturbed.shape)} and {len(image_ids)}"
        )
    if segments < 1:
        raise ValueError(f"segments must be >= 1, got {segments}")
    run, batch_size = _single_pass(network, batch_size)
    starts = range(0, len(clean), batch_size)
    parts = [slice(start, start + batch_size) for start in starts]

    def cross(part: slice) -> tuple[list[tuple[int, int]], list[torch.Tensor], list[torch.Tensor]]:
        return _cross(run, clean[part], perturbed[part], segments)

    threads = torch.get_num_threads()
    # Sums split over threads have other last bits, so each part stays on one thread.
    workers = threads if clean.device.type == "cpu" else 1
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            counts = list(pool.map(cross, parts))
    finally:
        torch.set_num_threads(threads)
    columns = ("image_id", "layer", "units", "kinks", "endpoint", "path")
    table: Table = {name: [] for name in columns}
    for part, (layers, endpoint, path) in zip(parts, counts, strict=True):
        for row, image_id in enumerate(image_ids[part]):
            for layer, (units, kinks) in enumerate(layers):
                crossed = int(endpoint[layer][row]), int(path[layer][row])
                _append(table, (image_id, layer, units, units * kinks, *crossed))
    if len(clean) and not table["layer"]:
        raise UserError(
            f"Crossings can't be counted in {type(network).__name__}: a network that runs ReLU or "
            "ReLU6 is needed, and this one runs none."
        )
    return table


def _single_pass(network: nn.Module, batch_size: int) -> tuple[Callable[[torch.Tensor], Any], int]:
    """Return a function that runs each layer once, in the calling thread, and its batch size.

    Micro-batches cut a batch in pieces and run them in threads of their own, which a mode doesn't
    reach; so their single pass is called.
    """
    batches = network.network if isinstance(network, Classifier) else network
    if isinstance(batches, MicroBatches):
        inner = batches
        if isinstance(network, Classifier):
            mean, std = network.mean, network.std
            return (lambda x: inner.run((x - mean) / std)), inner.size
        return inner.run, inner.size
    if any(isinstance(module, MicroBatches) for module in network.modules()):
        raise ValueError(
            "a Classifier, its network, or a plain module is needed, got a wrapped one"
        )
    return network, batch_size


def _cross(
    run: Callable[[torch.Tensor], Any], clean: torch.Tensor, perturbed: torch.Tensor, segments: int
) -> tuple[list[tuple[int, int]], list[torch.Tensor], list[torch.Tensor]]:
    """Return (units, kinks per unit) per layer, and endpoint and path counts, layer by image."""
    first, kinks = _sides(run, clean)
    before = first
    path = [torch.zeros(len(clean), dtype=torch.int64) for _ in first]
    for step in range(1, segments + 1):
        # The last point is the perturbed image itself, without rounding.
        point = perturbed if step == segments else clean + (perturbed - clean) * (step / segments)
        now, _ = _sides(run, point)
        if [sides.shape for sides in now] != [sides.shape for sides in before]:
            raise ValueError("the layers that run differ between two passes of the network")
        for layer, (old, new) in enumerate(zip(before, now, strict=True)):
            path[layer] += _changes(old, new)
        before = now
    endpoint = [_changes(old, new) for old, new in zip(first, before, strict=True)]
    units = [sides.shape[1] for sides in first]
    return list(zip(units, kinks, strict=True)), endpoint, path


def _sides(
    run: Callable[[torch.Tensor], Any], images: torch.Tensor
) -> tuple[list[torch.Tensor], list[int]]:
    with torch.no_grad(), _Sides(len(images)) as mode:
        run(images)
    return mode.sides, mode.kinks


def _changes(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    return (old - new).abs().sum(dim=1, dtype=torch.int64).cpu()


def random_control(
    delta: torch.Tensor,
    *,
    kind: str,
    seed: int,
    dataset: str,
    model: str,
    image_ids: Sequence[str],
    draw: int = 0,
) -> torch.Tensor:
    """Return random perturbations, each of the L2 norm of the perturbation that it stands beside.

    The control of section 2.2: that a perturbation crosses many hyperplanes says something only
    beside a random one of equal length. Nothing is clipped to the pixel range.

    Args:
        delta: perturbations, N x C x H x W.
        kind: 'gaussian' (a uniform direction) or 'signs' (all entries of one size, random sign).
        seed: the seed of the configuration.
        dataset: name of the dataset, part of the key of each draw.
        model: name of the model, likewise.
        image_ids: N names.
        draw: number of the draw.

    Raises:
        UserError: kind is something else.
    """
    if kind not in ("gaussian", "signs"):
        raise UserError(
            f"A random control is needed, got {kind!r}; {suggest(kind, ['gaussian', 'signs'])}."
        )
    rows = []
    for image_id, row in zip(image_ids, delta, strict=True):
        random = keys.generator(seed, "crossings", dataset, model, image_id, draw, kind)
        if kind == "gaussian":
            noise = torch.randn(row.shape, generator=random, dtype=torch.float64)
        else:
            noise = 2.0 * torch.randint(2, row.shape, generator=random, dtype=torch.float64) - 1
        norm = row.detach().to("cpu", torch.float64).norm()
        rows.append(noise * (norm / noise.norm()))
    return torch.stack(rows).to(delta.device, delta.dtype)


# Exact regions of a small network ----------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """A linear region of a network in a plane: a convex polygon on which all units keep their side.

    `vertices`, V x 2, anticlockwise, in coordinates (u, v). `pattern`: per hidden layer, which
    units are on. `affine`, outputs x 3: the output at (u, v) is affine @ (u, v, 1). `newest`: the
    last layer (1, 2, ...) that cut the polygon, 0 for none.
    """

    vertices: Floats
    pattern: tuple[tuple[bool, ...], ...]
    affine: Floats
    newest: int

    @property
    def area(self) -> float:
        """Area in units of the plane's coordinates."""
        x, y = self.vertices.T
        return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


@dataclass(frozen=True)
class Slice:
    """The regions of a plane, and the lines between them.

    `segments` columns: layer (1, 2, ...; the layer whose unit has its zero there), unit, x0, y0,
    x1, y1. `decision` columns: x0, y0, x1, y1; where the two first outputs are equal, one segment
    per region that it passes (empty for one output).
    """

    regions: list[Region]
    segments: Table
    decision: Table

    def table(self) -> Table:
        """Return the polygons: region, vertex, x, y, newest, area, margin, a row per vertex.

        The margin, output 1 - output 0 at the vertex (the output itself, if there is one), is
        affine on each region, so its vertices give it everywhere.
        """
        names = ("region", "vertex", "x", "y", "newest", "area", "margin")
        table: Table = {name: [] for name in names}
        for number, region in enumerate(self.regions):
            values = _margin(region.affine)
            for vertex, (x, y) in enumerate(region.vertices.tolist()):
                row = (number, vertex, x, y, region.newest, region.area)
                for name, value in zip(names, (*row, float(values @ (x, y, 1.0))), strict=True):
                    table[name].append(value)
        return table


def _margin(affine: Floats) -> Floats:
    return affine[1] - affine[0] if len(affine) > 1 else affine[0]


def _sign_at(vertices: Floats, line: Floats, tolerance: float) -> tuple[Floats, bool]:
    """Return the signed distances of vertices to a line, and whether both sides are occupied.

    Where the line degenerates (a constant pre-activation), the constant stands for the distance.
    """
    length = math.hypot(line[0], line[1])
    distance = vertices @ line[:2] + line[2]
    if length > 0:
        distance = distance / length
    both = length > 0 and distance.min() < -tolerance and distance.max() > tolerance
    return distance, bool(both)


def _cut(
    vertices: Floats, line: Floats, distance: Floats, tolerance: float
) -> tuple[Floats, Floats, Floats]:
    """Return the parts of a convex polygon with distance > 0 and < 0, and the two end points."""
    positive: list[Floats] = []
    negative: list[Floats] = []
    ends: list[Floats] = []
    # A vertex within the tolerance lies on the line, so no sliver is made beside it.
    side = np.where(np.abs(distance) <= tolerance, 0, np.sign(distance))
    for i in range(len(vertices)):
        j = (i + 1) % len(vertices)
        if side[i] >= 0:
            positive.append(vertices[i])
        if side[i] <= 0:
            negative.append(vertices[i])
        if side[i] == 0:
            ends.append(vertices[i])
        elif side[i] * side[j] < 0:
            share = distance[i] / (distance[i] - distance[j])
            point = vertices[i] + share * (vertices[j] - vertices[i])
            for part in (positive, negative, ends):
                part.append(point)
    # Two vertices that nearly agree may both lie on the line: the outermost points are the ends.
    along = np.array(ends) @ (-line[1], line[0])
    outermost = np.array(ends)[[along.argmin(), along.argmax()]]
    return np.array(positive), np.array(negative), outermost


def slice_regions(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    origin: ArrayLike,
    axis_u: ArrayLike,
    axis_v: ArrayLike,
    bounds: tuple[float, float, float, float],
) -> Slice:
    """Cut a rectangle of a plane in input space into the linear regions of a ReLU network, exactly.

    The plane is origin + u axis_u + v axis_v. Each region of layer l - 1 has an affine map to the
    pre-activations of layer l, so each of its units has a straight zero line in it, which clips
    the polygon in two. Pieces thinner than 1e-11 of the rectangle's diagonal
    are not split off.

    Source: Bandlimiting, Figure 1 (a sketch there) and section 2.2.

    Args:
        weights: one matrix per layer, outputs x inputs; the last layer is linear, the others ReLU.
        biases: one vector per layer.
        origin: point of the input space, shape (d,).
        axis_u: first direction, shape (d,).
        axis_v: second direction, shape (d,), independent of the first.
        bounds: (u_min, u_max, v_min, v_max).

    Raises:
        ValueError: the rectangle is empty.
    """
    left, right, bottom, top = bounds
    if not (left < right and bottom < top):
        raise ValueError(f"bounds must be (u_min, u_max, v_min, v_max), got {bounds}")
    tolerance = 1e-11 * math.hypot(right - left, top - bottom)
    plane = np.stack([np.asarray(axis, float) for axis in (axis_u, axis_v, origin)], axis=1)
    corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top]], float)
    regions = [Region(corners, (), plane, 0)]
    segments: Table = {name: [] for name in ("layer", "unit", "x0", "y0", "x1", "y1")}
    layers = [
        (np.asarray(w, float), np.asarray(b, float)) for w, b in zip(weights, biases, strict=True)
    ]
    for layer, (weight, bias) in enumerate(layers[:-1], start=1):
        cut: list[Region] = []
        for region in regions:
            cut += _cut_layer(
                region, _affine(weight, bias, region.affine), layer, tolerance, segments
            )
        regions = cut
    regions = [replace(region, affine=_affine(*layers[-1], region.affine)) for region in regions]
    return Slice(regions, segments, _decision(regions, tolerance))


def _affine(weight: Floats, bias: Floats, inner: Floats) -> Floats:
    """Return the layer weight @ . + bias after an affine map of (u, v, ..., 1), as one matrix."""
    outer = weight @ inner
    outer[:, -1] += bias
    return outer


def _cut_layer(
    region: Region, lines: Floats, layer: int, tolerance: float, segments: Table
) -> list[Region]:
    """Cut one region by the zero lines of all units of a layer; the new maps are after the ReLU."""
    pieces: list[tuple[Floats, tuple[bool, ...], int]] = [(region.vertices, (), region.newest)]
    for unit, line in enumerate(lines):
        split: list[tuple[Floats, tuple[bool, ...], int]] = []
        for vertices, pattern, newest in pieces:
            distance, both = _sign_at(vertices, line, tolerance)
            if not both:
                on = bool(distance[np.abs(distance).argmax()] > 0)
                split.append((vertices, (*pattern, on), newest))
                continue
            positive, negative, ends = _cut(vertices, line, distance, tolerance)
            split.append((positive, (*pattern, True), layer))
            split.append((negative, (*pattern, False), layer))
            _append(segments, (layer, unit, *ends.ravel().tolist()))
        pieces = split
    return [
        Region(vertices, (*region.pattern, on), lines * np.array(on)[:, None], newest)
        for vertices, on, newest in pieces
    ]


def _decision(regions: Sequence[Region], tolerance: float) -> Table:
    table: Table = {name: [] for name in ("x0", "y0", "x1", "y1")}
    for region in regions:
        if len(region.affine) > 1:
            line = _margin(region.affine)
            distance, both = _sign_at(region.vertices, line, tolerance)
            if both:
                ends = _cut(region.vertices, line, distance, tolerance)[2]
                _append(table, ends.ravel().tolist())
    return table


def crossings_on_segment(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], start: ArrayLike, end: ArrayLike
) -> Table:
    """Return where the straight segment between two points crosses kinks of a network, exactly.

    Layer by layer, each stretch on which all earlier units keep their side is cut at the zeros of
    the layer's units; a crossing is where a unit changes side.

    Source: Bandlimiting, Figure 1 and section 2.2.

    Args:
        weights: as in `slice_regions`.
        biases: as in `slice_regions`.
        start: point of the input space, shape (d,).
        end: point of the input space, shape (d,).

    Returns:
        Table with columns layer (1, 2, ...), unit, position (0 at start, 1 at end), and x0, x1,
        ... the point in input space; ordered by position.
    """
    first, last = np.asarray(start, float), np.asarray(end, float)
    breaks = np.array([0.0, 1.0])
    maps = [np.stack([last - first, first], axis=1)]
    found: list[tuple[float, int, int]] = []
    for layer, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True), start=1):
        finer, sides, lines_after = [0.0], [], []
        for low, high, inner in zip(breaks[:-1], breaks[1:], maps, strict=True):
            lines = _affine(np.asarray(weight, float), np.asarray(bias, float), inner)
            with np.errstate(divide="ignore", invalid="ignore"):
                zeros = -lines[:, 1] / lines[:, 0]
            inside = np.unique(zeros[(zeros > low) & (zeros < high)])
            for before, after in zip([low, *inside], [*inside, high], strict=True):
                on = lines @ ((before + after) / 2, 1.0) > 0
                finer.append(float(after))
                sides.append(on)
                lines_after.append(lines * on[:, None])
        for position, old, new in zip(finer[1:-1], sides[:-1], sides[1:], strict=True):
            found += [(position, layer, int(unit)) for unit in np.flatnonzero(old != new)]
        breaks, maps = np.array(finer), lines_after
    names = ["layer", "unit", "position", *(f"x{i}" for i in range(len(first)))]
    table: Table = {name: [] for name in names}
    for position, layer, unit in sorted(found):
        point = first + position * (last - first)
        _append(table, (layer, unit, position, *point.tolist()))
    return table


# Figure 1 ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmallNetwork:
    """A trained fully connected ReLU network with two inputs and two classes, and its data.

    `weights`, `biases`: a matrix and a vector per layer, float64. `points`, N x 2; `labels`, N.
    """

    weights: list[Floats]
    biases: list[Floats]
    points: Floats
    labels: NDArray[np.int64]

    def margins(self, points: ArrayLike) -> Floats:
        """Return output 1 - output 0 at points, N x 2; class 1 where it is positive."""
        value = np.asarray(points, float)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            value = np.maximum(value @ weight.T + bias, 0)
        value = value @ self.weights[-1].T + self.biases[-1]
        return value[:, 1] - value[:, 0]


def two_moons(points: int, noise: float, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return two interleaved half circles, half of the points each, with Gaussian noise.

    Class 0 is the upper half of the unit circle, class 1 its lower half moved by (1, 0.5); all is
    then centred on the origin.
    """
    rng = np.random.default_rng(keys.derive(seed, "figure_1", "two_moons"))
    labels = np.arange(points) % 2
    angle = rng.uniform(0, math.pi, points) + math.pi * labels
    circle = np.stack([np.cos(angle) + labels, np.sin(angle) + 0.5 * labels], axis=1)
    data = circle - (0.5, 0.25) + noise * rng.standard_normal((points, 2))
    return data, labels.astype(np.int64)


def train_small_network(
    seed: int = 0,
    *,
    hidden: Sequence[int] = (16, 16, 16),
    points: int = 200,
    noise: float = 0.12,
    steps: int = 400,
    learning_rate: float = 0.01,
) -> SmallNetwork:
    """Train a small network on two half moons: full-batch Adam, cross-entropy, one thread.

    The figure then shows regions that training has made, not the sketch of the document.
    """
    data, labels = two_moons(points, noise, seed)
    sizes = [2, *hidden, 2]
    random = keys.generator(seed, "figure_1", "weights")
    parameters = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        scale = math.sqrt(2 / inputs)
        weight = scale * torch.randn(outputs, inputs, generator=random, dtype=torch.float64)
        bias = 0.1 * torch.randn(outputs, generator=random, dtype=torch.float64)
        parameters += [weight.requires_grad_(), bias.requires_grad_()]
    update = optimizers.adam_update(parameters, learning_rate)
    inputs_, targets = torch.from_numpy(data), torch.from_numpy(labels)
    threads = torch.get_num_threads()
    # Sums split over threads have other last bits.
    torch.set_num_threads(1)
    try:
        for _ in range(steps):
            value = inputs_
            for layer in range(0, len(parameters), 2):
                value = functional.linear(value, parameters[layer], parameters[layer + 1])
                if layer < len(parameters) - 2:
                    value = functional.relu(value)
            for parameter in parameters:
                parameter.grad = None
            functional.cross_entropy(value, targets).backward()
            update()
    finally:
        torch.set_num_threads(threads)
    arrays = [parameter.detach().numpy() for parameter in parameters]
    return SmallNetwork(arrays[::2], arrays[1::2], data, labels)


def figure_1(seed: int = 0, *, overshoot: float = 0.02, margin: float = 0.3) -> dict[str, Table]:
    """Return the tables of Figure 1: a trained network's regions and a minimal adversarial step.

    A is the correctly classified point whose distance to the decision boundary is the median one;
    B lies on the other side of the point of the boundary that is nearest to A, found exactly, by
    a further `overshoot` of the distance. The lines are coloured by layer in the document: black,
    blue, red for 1, 2, 3.

    Source: Bandlimiting, Figure 1.

    Args:
        seed: seed of data and weights.
        overshoot: share of the distance by which B lies beyond the boundary.
        margin: width of the frame around the data.

    Returns:
        Tables 'polygons' (`Slice.table`), 'segments' and 'decision' (`Slice`), 'crossings' (of
        the segment from A to B, `crossings_on_segment`), 'points' (x, y, label), 'step' (two
        rows: name 'A' or 'B', x, y, label, prediction, margin, distance from A).

    Raises:
        ValueError: training has found no boundary within the frame.
    """
    network = train_small_network(seed)
    low, high = network.points.min(axis=0) - margin, network.points.max(axis=0) + margin
    bounds = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    plane = slice_regions(
        network.weights, network.biases, (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), bounds
    )
    if not plane.decision["x0"]:
        raise ValueError("the trained network has no decision boundary within the frame")
    nearest = _nearest(network.points, plane.decision)
    distances = np.linalg.norm(nearest - network.points, axis=1)
    correct = np.flatnonzero((network.margins(network.points) > 0) == (network.labels == 1))
    chosen = correct[np.argsort(distances[correct], kind="stable")[len(correct) // 2]]
    start = network.points[chosen]
    end = start + (1 + overshoot) * (nearest[chosen] - start)
    margins = network.margins(np.stack([start, end]))
    step: Table = {
        "name": ["A", "B"],
        "x": [float(start[0]), float(end[0])],
        "y": [float(start[1]), float(end[1])],
        "label": [int(network.labels[chosen])] * 2,
        "prediction": [int(value > 0) for value in margins],
        "margin": margins.tolist(),
        "distance": [0.0, float(np.linalg.norm(end - start))],
    }
    x, y = network.points.T.tolist()
    return {
        "polygons": plane.table(),
        "segments": plane.segments,
        "decision": plane.decision,
        "crossings": crossings_on_segment(network.weights, network.biases, start, end),
        "points": {"x": x, "y": y, "label": network.labels.tolist()},
        "step": step,
    }


def _nearest(points: Floats, decision: Table) -> Floats:
    """Return, for each point, the nearest point of the decision boundary, N x 2."""
    start = np.stack([decision["x0"], decision["y0"]], axis=1)
    along = np.stack([decision["x1"], decision["y1"]], axis=1) - start
    offset = points[:, None] - start
    share = np.clip((offset * along).sum(2) / (along**2).sum(1), 0, 1)
    foot = start + share[..., None] * along
    choice = np.linalg.norm(points[:, None] - foot, axis=2).argmin(axis=1)
    return np.asarray(foot[np.arange(len(points)), choice])
