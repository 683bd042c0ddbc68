from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bandlimit import errors
from bandlimit.models import batches as models_batches
from bandlimit.models import classifier as models_classifier
from bandlimit.studies.bandlimiting import regions


class Functional(nn.Module):
    """The same small network as `modules`, written with functions and methods."""

    def __init__(self, layers):
        super().__init__()
        self.first, self.second, self.third = layers

    def forward(self, x):
        x = functional.relu(self.first(x), inplace=True)
        x = torch.relu(self.second(x))
        return self.third(x.relu())


def layers():
    torch.manual_seed(0)
    return [nn.Linear(3, 20), nn.Linear(20, 10), nn.Linear(10, 2)]


def modules():
    first, second, third = layers()
    return nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(), nn.ReLU(), third)


def count(network, clean, perturbed, **options):
    ids = [f"image{i}" for i in range(len(clean))]
    return regions.count_crossings(network, clean, perturbed, image_ids=ids, **options)


def pair(rows=5, width=3):
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(rows, width, generator=generator)
    return clean, clean + 2 * torch.randn(rows, width, generator=generator)


def test_known_signs():
    # Units x > 0, x > 1, x > 2, -x > 0; from -0.5 to 1.5 three of them change side.
    layer = nn.Linear(1, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [1.0], [1.0], [-1.0]]))
        layer.bias.copy_(torch.tensor([0.0, -1.0, -2.0, 0.0]))
    clean, perturbed = torch.tensor([[-0.5], [0.2]]), torch.tensor([[1.5], [0.3]])
    table = count(nn.Sequential(layer, nn.ReLU()), clean, perturbed)
    assert table == {
        "image_id": ["image0", "image1"],
        "layer": [0, 0],
        "units": [4, 4],
        "kinks": [4, 4],
        "endpoint": [3, 0],
        "path": [3, 0],
    }


def test_path_finds_a_unit_that_goes_and_comes_back():
    # relu(x) + relu(-x) - 1 > 0 at both ends of [-2, 2] and not in the middle.
    first, second = nn.Linear(1, 2, bias=False), nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        second.weight.fill_(1.0)
        second.bias.fill_(-1.0)
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    table = count(network, torch.tensor([[-2.0]]), torch.tensor([[2.0]]), segments=32)
    assert table["endpoint"] == [2, 0]
    assert table["path"] == [2, 2]


def test_path_is_at_least_the_endpoint_count_and_finds_more():
    clean, perturbed = pair(8)
    table = count(modules(), clean, perturbed, segments=32)
    assert all(p >= e for p, e in zip(table["path"], table["endpoint"], strict=True))
    assert sum(table["path"]) > sum(table["endpoint"]) > 0
    assert count(modules(), clean, perturbed)["path"] == table["endpoint"]


def test_modules_functions_and_traced_graphs_count_alike():
    clean, perturbed = pair()
    table = count(modules(), clean, perturbed, segments=4)
    assert table["layer"][:3] == [0, 1, 2]
    functions = Functional(layers())
    assert count(functions, clean, perturbed, segments=4) == table
    assert count(torch.fx.symbolic_trace(functions), clean, perturbed, segments=4) == table


def test_a_torchvision_network_runs_all_its_layers():
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.resnet18(num_classes=3).eval()
    image = torch.rand(1, 3, 32, 32)
    table = count(network, image, image + 0.05)
    assert table["layer"] == list(range(17))
    assert table["units"][0] == 64 * 16 * 16
    assert sum(table["endpoint"]) > 0


@pytest.mark.parametrize("activation", [nn.ReLU6(), nn.Hardtanh(0.0, 6.0)])
def test_relu6_has_two_kinks(activation):
    network = nn.Sequential(nn.Identity(), activation)
    clean = torch.tensor([[-1.0, 1.0, 1.0, 7.0]])
    perturbed = torch.tensor([[8.0, 7.0, 2.0, -1.0]])
    table = count(network, clean, perturbed)
    assert (table["units"], table["kinks"], table["endpoint"]) == ([4], [8], [5])


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_do_not_matter(batch_size):
    clean, perturbed = pair()
    expected = count(modules(), clean, perturbed, segments=3, batch_size=5)
    assert count(modules(), clean, perturbed, segments=3, batch_size=batch_size) == expected


class Small(nn.Module):
    """A convolution network with functional ReLUs and batch normalisation, as for CIFAR-10."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 4, 3, stride=2)
        self.last = nn.Linear(4 * 9, 2)

    def forward(self, x):
        x = functional.relu(self.norm(self.first(x)))
        return self.last(functional.relu(self.second(x)).flatten(1))


@pytest.mark.parametrize("threads", [1, 2])
def test_classifiers_count_by_their_micro_batches(threads):
    torch.manual_seed(3)
    plain = Small().eval()
    plain.norm.running_mean.normal_()
    folded = models_batches.fold(copy.deepcopy(plain))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.2]
    batches = models_batches.MicroBatches(folded, 3)
    classifier = models_classifier.Classifier(
        batches, mean=mean, std=std, shape=(3, 8, 8), classes=2
    )
    clean, perturbed = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    inner = [(x - classifier.mean) / classifier.std for x in (clean, perturbed)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        table = count(classifier, clean, perturbed, segments=3)
        assert table["units"] == [6 * 64, 4 * 9] * 5
        assert count(batches, *inner, segments=3) == table
        assert count(plain, *inner, segments=3) == table
        last = regions.count_crossings(
            classifier, clean[4:], perturbed[4:], image_ids=["image4"], segments=3
        )
        assert last == {name: column[8:] for name, column in table.items()}
        assert torch.get_num_threads() == threads
        with pytest.raises(ValueError, match="wrapped"):
            count(nn.Sequential(classifier), clean, perturbed)
    finally:
        torch.set_num_threads(before)


def test_a_network_without_relu_is_refused():
    with pytest.raises(errors.UserError, match="runs none"):
        count(nn.Sequential(nn.Linear(3, 2), nn.SiLU()), *pair())


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="must agree"):
        count(modules(), torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="segments"):
        count(modules(), *pair(), segments=0)


def control(delta, ids, kind="gaussian", seed=0, draw=0):
    return regions.random_control(
        delta, kind=kind, seed=seed, dataset="d", model="m", image_ids=ids, draw=draw
    )


@pytest.mark.parametrize("kind", ["gaussian", "signs"])
def test_random_control_has_the_norm_and_depends_on_the_image_alone(kind):
    delta = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    made = control(delta, ["a", "b", "c"], kind)
    assert made.dtype == delta.dtype
    torch.testing.assert_close(made.flatten(1).norm(dim=1), delta.flatten(1).norm(dim=1))
    assert torch.equal(control(delta[[2, 0]], ["c", "a"], kind), made[[2, 0]])
    assert not torch.equal(control(delta, ["a", "b", "c"], kind, draw=1), made)
    assert not torch.equal(control(delta, ["a", "b", "c"], kind, seed=1), made)
    if kind == "signs":
        assert len(made[0].abs().unique()) == 1
    assert torch.equal(control(torch.zeros(1, 4), ["a"], kind), torch.zeros(1, 4))


def test_random_control_refuses_another_kind():
    with pytest.raises(errors.UserError, match="did you mean 'gaussian'"):
        control(torch.zeros(1, 2), ["a"], "gausian")


# Exact regions -----------------------------------------------------------------------------------


def network(seed, sizes):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) for a, b in itertools.pairwise(sizes)]
    return weights, [0.5 * rng.standard_normal(b) for b in sizes[1:]]


def evaluate(weights, biases, points):
    value, pattern = np.asarray(points, float), []
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        value = value @ weight.T + bias
        pattern.append(value > 0)
        value = np.maximum(value, 0)
    return value @ weights[-1].T + biases[-1], np.concatenate(pattern, axis=1)


PLANE = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
WINDOW = (-3.0, 3.0, -2.0, 2.5)
DEEP = [(0, (2, 8, 8, 8, 2)), (1, (2, 12, 6, 3)), (2, (2, 5, 5, 5, 5, 1))]


@pytest.mark.parametrize("units", [1, 2, 5, 9])
def test_one_layer_in_general_position(units):
    weights, biases = network(units, (2, units, 1))
    corners = [
        np.linalg.solve(weights[0][list(two)], -biases[0][list(two)])
        for two in itertools.combinations(range(units), 2)
    ]
    size = 10 * max([1.0, *(np.abs(corner).max() for corner in corners)])
    result = regions.slice_regions(weights, biases, *PLANE, (-size, size, -size, size))
    assert len(result.regions) == 1 + units + math.comb(units, 2)
    # In a smaller window the lines and corners within count.
    window = (-0.5, 0.5, -0.5, 0.5)
    inside = sum(bool(np.abs(corner).max() < 0.5) for corner in corners)
    box = np.array([[x, y] for x in window[:2] for y in window[2:]])
    values = box @ weights[0].T + biases[0]
    lines = int(((values.min(axis=0) < 0) & (values.max(axis=0) > 0)).sum())
    small = regions.slice_regions(weights, biases, *PLANE, window)
    assert len(small.regions) == 1 + lines + inside


@pytest.mark.parametrize("units", [1, 2, 7])
def test_networks_without_biases_have_cones_for_regions(units):
    weights, biases = network(units, (2, units, 8, 1))
    biases = [0 * bias for bias in biases]
    single = regions.slice_regions(
        [weights[0], np.ones((1, units))], [biases[0], biases[2]], *PLANE, WINDOW
    )
    assert len(single.regions) == 2 * units
    deep = regions.slice_regions(weights, biases, *PLANE, WINDOW)
    assert sum(region.area for region in deep.regions) == pytest.approx(27.0, rel=1e-12)
    if units > 1:
        for region in deep.regions:
            assert np.linalg.norm(region.vertices, axis=1).min() < 1e-9


@pytest.mark.parametrize(("seed", "sizes"), DEEP)
def test_regions_tile_the_window(seed, sizes):
    result = regions.slice_regions(*network(seed, sizes), *PLANE, WINDOW)
    areas = [region.area for region in result.regions]
    assert min(areas) > 0
    assert sum(areas) == pytest.approx(6.0 * 4.5, rel=1e-12)
    patterns = {region.pattern for region in result.regions}
    assert len(patterns) == len(result.regions) > 20
    assert {region.newest for region in result.regions} <= set(range(len(sizes) - 1))


@pytest.mark.parametrize(("seed", "sizes"), DEEP)
def test_euler(seed, sizes):
    result = regions.slice_regions(*network(seed, sizes), *PLANE, WINDOW)
    polygons = [
        [tuple(vertex) for vertex in np.round(region.vertices, 7).tolist()]
        for region in result.regions
    ]
    corners = np.array(sorted({vertex for polygon in polygons for vertex in polygon}))
    edges = set()
    for polygon in polygons:
        for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            # A long edge may have corners of its neighbours on it.
            along = np.subtract(end, start)
            length = math.hypot(*along)
            if length == 0:
                continue
            offset = corners - start
            across = np.abs(offset[:, 0] * along[1] - offset[:, 1] * along[0]) / length
            share = offset @ along / length**2
            on = corners[(across < 1e-6) & (share > -1e-9) & (share < 1 + 1e-9)]
            ordered = sorted(
                map(tuple, on.tolist()), key=lambda p: np.dot(np.subtract(p, start), along)
            )
            edges |= {frozenset(two) for two in itertools.pairwise(ordered)}
    assert len(corners) - len(edges) + len(polygons) == 1


@pytest.mark.parametrize(("seed", "sizes"), DEEP)
def test_affine_maps_and_patterns_are_the_networks(seed, sizes):
    weights, biases = network(seed, sizes)
    result = regions.slice_regions(weights, biases, *PLANE, WINDOW)
    rng = np.random.default_rng(0)
    for region in result.regions:
        shares = rng.dirichlet(np.ones(len(region.vertices)), size=5)
        points = shares @ region.vertices
        output, pattern = evaluate(weights, biases, points)
        affine = np.column_stack([points, np.ones(5)]) @ region.affine.T
        np.testing.assert_allclose(affine, output, atol=1e-9)
        if region.area > 1e-6:
            assert (pattern == np.concatenate(region.pattern)).all()


def test_a_slice_of_a_wider_input_space():
    weights, biases = network(4, (6, 10, 10, 3))
    rng = np.random.default_rng(1)
    origin, axis_u, axis_v = rng.standard_normal((3, 6))
    result = regions.slice_regions(weights, biases, origin, axis_u, axis_v, (-1, 1, -1, 1))
    assert len(result.regions) > 20
    for region in result.regions:
        u, v = region.vertices.mean(axis=0)
        output, _ = evaluate(weights, biases, [origin + u * axis_u + v * axis_v])
        np.testing.assert_allclose(region.affine @ (u, v, 1), output[0], atol=1e-10)


def test_segments_are_zeros_of_their_units():
    weights, biases = network(0, (2, 8, 8, 8, 2))
    result = regions.slice_regions(weights, biases, *PLANE, WINDOW)
    table = result.segments
    assert len(table["layer"]) == len(result.regions) - 1
    for layer, unit, x0, y0, x1, y1 in zip(*table.values(), strict=True):
        value = np.array([[x0, y0], [x1, y1], [(x0 + x1) / 2, (y0 + y1) / 2]])
        for index in range(layer):
            value = np.maximum(value, 0) if index else value
            value = value @ weights[index].T + biases[index]
        np.testing.assert_allclose(value[:, unit], 0, atol=1e-8)


def test_decision_segments_have_equal_outputs():
    weights, biases = network(0, (2, 8, 8, 8, 2))
    decision = regions.slice_regions(weights, biases, *PLANE, WINDOW).decision
    points = np.array([decision["x0"] + decision["x1"], decision["y0"] + decision["y1"]]).T
    assert len(points) > 4
    output, _ = evaluate(weights, biases, points)
    np.testing.assert_allclose(output[:, 0], output[:, 1], atol=1e-9)


def test_polygon_table_lists_each_vertex():
    weights, biases = network(0, (2, 4, 4, 2))
    result = regions.slice_regions(weights, biases, *PLANE, WINDOW)
    table = result.table()
    assert len(table["x"]) == sum(len(region.vertices) for region in result.regions)
    output, _ = evaluate(weights, biases, np.array([table["x"], table["y"]]).T)
    np.testing.assert_allclose(table["margin"], output[:, 1] - output[:, 0], atol=1e-9)


def test_dead_units_cut_nothing():
    weights = [np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros((2, 2)), np.ones((1, 2))]
    biases = [np.array([1.0, 0.0]), np.array([0.0, -1.0]), np.zeros(1)]
    result = regions.slice_regions(weights, biases, *PLANE, (-1, 1, -1, 1))
    assert [region.pattern for region in result.regions] == [
        ((True, True), (False, False)),
        ((True, False), (False, False)),
    ]
    assert result.decision["x0"] == []


def test_empty_bounds_are_refused():
    with pytest.raises(ValueError, match="bounds"):
        regions.slice_regions(*network(0, (2, 3, 1)), *PLANE, (1, 1, 0, 1))


@pytest.mark.parametrize(("seed", "sizes"), DEEP)
def test_crossings_agree_with_dense_sampling(seed, sizes):
    weights, biases = network(seed, sizes)
    start, end = np.array([-2.0, -1.5]), np.array([2.2, 1.1])
    table = regions.crossings_on_segment(weights, biases, start, end)
    share = np.linspace(0, 1, 200_001)
    _, pattern = evaluate(weights, biases, start + share[:, None] * (end - start))
    step, unit = np.nonzero(pattern[1:] != pattern[:-1])
    firsts = np.cumsum([0, *sizes[1:-1]])
    dense = [(share[s] + share[1] / 2, u) for s, u in zip(step, unit, strict=True)]
    flat = [firsts[layer - 1] + u for layer, u in zip(table["layer"], table["unit"], strict=True)]
    exact = list(zip(table["position"], flat, strict=True))
    assert len(exact) == len(dense) > 5
    order = sorted(exact, key=lambda row: (row[1], row[0]))
    for one, other in zip(order, sorted(dense, key=lambda row: (row[1], row[0])), strict=True):
        assert one[1] == other[1]
        assert one[0] == pytest.approx(other[0], abs=1e-5)
    assert table["position"] == sorted(table["position"])
    np.testing.assert_allclose(
        np.array([table["x0"], table["x1"]]).T,
        start + np.array(table["position"])[:, None] * (end - start),
    )


def test_crossings_agree_with_the_polygons():
    weights, biases = network(0, (2, 8, 8, 8, 2))
    result = regions.slice_regions(weights, biases, *PLANE, WINDOW)
    start, end = np.array([-2.0, -1.5]), np.array([2.2, 1.1])
    table = regions.crossings_on_segment(weights, biases, start, end)
    segments = np.array(list(result.segments.values())[2:]).T
    normal = np.array([start[1] - end[1], end[0] - start[0]])
    side = (segments.reshape(-1, 2, 2) - start) @ normal
    other = []
    for (x0, y0, x1, y1), (a, b) in zip(segments, side, strict=True):
        share = a / (a - b) if a * b < 0 else math.nan
        point = np.array([x0, y0]) + share * np.array([x1 - x0, y1 - y0])
        position = (point - start) @ (end - start) / ((end - start) @ (end - start))
        if 0 < position < 1:
            other.append(position)
    np.testing.assert_allclose(sorted(other), table["position"], atol=1e-8)


def test_crossings_agree_with_the_count_in_torch():
    trained = regions.train_small_network(3, steps=20)
    stack = []
    for weight, bias in zip(trained.weights, trained.biases, strict=True):
        linear = nn.Linear(*weight.shape[::-1], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        stack += [linear, nn.ReLU()]
    start, end = torch.tensor([[-1.0, -0.5]]).double(), torch.tensor([[1.0, 0.6]]).double()
    table = count(nn.Sequential(*stack[:-1]), start, end, segments=3000)
    exact = regions.crossings_on_segment(trained.weights, trained.biases, start[0], end[0])
    assert sum(table["path"]) == len(exact["layer"]) > 10


@pytest.fixture(scope="module")
def figure():
    return regions.figure_1(0)


def test_figure_step_is_the_shortest_across_the_decision_boundary(figure):
    step = figure["step"]
    assert step["name"] == ["A", "B"]
    assert step["prediction"][0] == step["label"][0]
    assert step["prediction"][1] != step["label"][1]
    # Nothing within the distance, less the overshoot, is of the other class.
    trained = regions.train_small_network(0)
    angle = np.linspace(0, 2 * math.pi, 721)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    start = np.array([step["x"][0], step["y"][0]])
    for share in (0.3, 0.6, 0.9, 1 / 1.02 - 1e-6):
        classes = trained.margins(start + share * step["distance"][1] * ring) > 0
        assert (classes == step["label"][0]).all()


def test_figure_is_complete_and_repeats(figure):
    assert set(figure) == {"polygons", "segments", "decision", "crossings", "points", "step"}
    for table in figure.values():
        assert len({len(column) for column in table.values()}) == 1
        assert next(iter(table.values()))
    assert set(figure["segments"]["layer"]) == {1, 2, 3}
    assert regions.figure_1(0) == figure


def test_training_learns_and_leaves_the_threads_alone():
    threads = torch.get_num_threads()
    state = torch.random.get_rng_state()
    trained = regions.train_small_network(1)
    assert ((trained.margins(trained.points) > 0) == (trained.labels == 1)).mean() > 0.97
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not np.array_equal(trained.points, regions.train_small_network(2, steps=1).points)
