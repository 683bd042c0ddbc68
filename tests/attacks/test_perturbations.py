"""Perturbations along the gradient, of all images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bandlimit.attacks import perturbations
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.training.perturbations import Perturbation

SHAPE = (1, 6, 6)


def network(scale: float = 1.0) -> nn.Module:
    made = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 3))
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return made.eval().requires_grad_(False)


def images(count: int) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((count, *SHAPE), generator=generator)
    return [f"image {i}" for i in range(count)], torch.arange(count) % 3, x


WAYS = {
    "fgm": Perturbation(kind="fgm_l2", epsilon=0.5, clip=False),
    "pgd": Perturbation(kind="pgd_l2", epsilon=0.5, steps=5, rel_stepsize=0.3),
    "box": Perturbation(kind="pgd_linf", epsilon=0.1, steps=5, rel_stepsize=0.3),
}


def made(model, batches, seed=0):
    found = perturbations.generate(model, WAYS, batches, seed=seed, dataset="d", model_name="m")
    return [(name, table, x, d) for name, table, x, d in found]


def test_fgm_is_the_gradient_of_the_loss_at_its_length():
    model, (ids, labels, x) = network(), images(5)
    name, table, clean, d = made(model, [(ids, labels, x)])[0]
    leaf = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    unit = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    assert name == "fgm" and torch.equal(clean, x.double())
    assert torch.allclose(d, 0.5 * unit.double(), atol=1e-5)
    assert table["l2"].to_pylist() == pytest.approx([0.5] * 5, abs=1e-5)


def test_all_images_are_kept_the_misclassified_too():
    model, (ids, labels, x) = network(), images(9)
    found = made(model, [(ids, labels, x)])
    assert [name for name, *_ in found] == list(WAYS)
    for _, table, clean, d in found:
        assert table["image_id"].to_pylist() == ids
        before = np.array(table["prediction_before"].to_pylist())
        assert (before != labels.numpy()).any() and (before == labels.numpy()).any()
        assert set(table["status"].to_pylist()) == {"ok"}
        stored = store.images_of(table).astype(np.float64)
        assert np.allclose(stored, (clean + d).numpy(), atol=1e-7)
        after = model(torch.from_numpy(stored).float()).argmax(dim=1)
        assert table["prediction_after"].to_pylist() == after.tolist()


def test_an_image_meets_the_same_perturbation_in_every_batch():
    model, (ids, labels, x) = network(), images(7)
    whole = {name: d for name, _, _, d in made(model, [(ids, labels, x)])}
    parts = made(model, [(ids[:3], labels[:3], x[:3]), (ids[3:], labels[3:], x[3:])])
    for name in WAYS:
        pieces = torch.cat([d for n, _, _, d in parts if n == name])
        assert torch.allclose(pieces, whole[name], atol=1e-6)


def test_clipped_ones_stay_within_pixels_and_bounds():
    model, (ids, labels, x) = network(), images(6)
    for name, table, clean, d in made(model, [(ids, labels, x)]):
        changed = clean + d
        inside = bool(((changed >= -1e-7) & (changed <= 1 + 1e-7)).all())
        assert inside == WAYS[name].clip
        norm = "linf" if name == "box" else "l2"
        assert max(table[norm].to_pylist()) <= WAYS[name].epsilon + 1e-6


def test_a_sure_network_has_a_direction_still():
    model, (ids, _, x) = network(scale=8.0), images(6)
    leaf = x.clone().requires_grad_()
    sure = model(x).argmax(dim=1)
    loss = nn.functional.cross_entropy(model(leaf), sure, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert bool((gradient.flatten(1).norm(dim=1) < 1e-6).any())
    _, table, _, d = made(model, [(ids, sure, x)])[0]
    assert set(table["status"].to_pylist()) == {"ok"}
    assert d.flatten(1).norm(dim=1).tolist() == pytest.approx([0.5] * 6, abs=1e-5)


def test_what_does_not_move_and_what_is_not_finite_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            logits = torch.stack([x.sum((1, 2, 3)), torch.zeros(len(x))], dim=1)
            flat = x[:, 0, 0, 0] == 0
            broken = x[:, 0, 0, 0] == 1
            logits = torch.where(flat[:, None], logits.detach(), logits)
            return torch.where(broken[:, None], torch.full_like(logits, torch.nan), logits)

    _, _, x = images(3)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 0, 1
    labels = torch.zeros(3, dtype=torch.int64)
    for _, table, _, d in made(Odd().eval(), [(["flat", "broken", "fine"], labels, x)]):
        assert table["status"].to_pylist() == ["zero_gradient", "nan_gradient", "ok"]
        assert not d[:2].any() and bool(d[2].any())


class Broken(nn.Module):
    """A network that has no logits an l_inf distance away from grey."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        far = (x - 0.5).abs().flatten(1).amax(dim=1, keepdim=True) > 0.05
        return self.network(x).masked_fill(far, float("nan"))


def test_what_is_not_finite_on_the_way_is_named():
    grey = torch.full((2, *SHAPE), 0.5)
    found = made(Broken(), [(["a", "b"], torch.tensor([0, 1]), grey)])
    status = {name: set(table["status"].to_pylist()) for name, table, *_ in found}
    # One gradient is sound; several lead to where there are none.
    assert status == {"fgm": {"ok"}, "pgd": {"nan_gradient"}, "box": {"nan_gradient"}}
    assert not dict((name, d) for name, _, _, d in found)["box"].any()


def test_a_label_beyond_the_classes_is_refused():
    ids, _, x = images(2)
    with pytest.raises(UserError, match="label of image 'image 1' is 7"):
        made(network(), [(ids, torch.tensor([0, 7]), x)])


def test_the_squared_error_has_a_gradient_of_its_own():
    model, (_, labels, x) = network(), images(4)
    way = Perturbation(kind="fgm_l2", epsilon=0.5, clip=False, loss="mse")
    d = way.of(model, x, labels, torch.zeros_like(x)) - x
    leaf = x.clone().requires_grad_()
    targets = nn.functional.one_hot(labels, 3)
    (gradient,) = torch.autograd.grad((model(leaf) - targets).square().sum(), leaf)
    unit = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    assert torch.allclose(d, 0.5 * unit, atol=1e-5)
    other = WAYS["fgm"].of(model, x, labels, torch.zeros_like(x)) - x
    assert not torch.allclose(d, other, atol=1e-3)
    with pytest.raises(UserError, match="no loss 'msee'"):
        Perturbation(kind="fgm_l2", epsilon=0.5, loss="msee")
