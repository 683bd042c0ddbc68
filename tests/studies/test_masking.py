from __future__ import annotations

import pytest
import torch

from bandlimit import keys
from bandlimit.studies.robustness import symptoms

SHAPE = (1, 6, 6)
PLAIN = {
    "random_output": False,
    "largest_difference": 0.0,
    "probability_output": False,
    "zero_gradients": 0,
    "nan_gradients": 0,
}


class Plain(torch.nn.Module):
    """A linear model with three classes, as a defence that does nothing."""

    classes = 3

    def __init__(self):
        super().__init__()
        weight = torch.randn((3, 36), generator=torch.Generator().manual_seed(3))
        self.register_buffer("weight", weight)

    def bind(self, image_ids, draw=0):
        self.image_ids, self.draw = list(image_ids), draw
        return self

    def logits(self, x):
        return (x - 0.5).flatten(1) @ self.weight.T

    def forward(self, x):
        assert len(x) == len(self.image_ids)
        return self.logits(x)


class Quantised(Plain):
    def forward(self, x):
        return torch.round(10 * self.logits(x)) / 10


class Detached(Plain):
    def forward(self, x):
        return self.logits(x).detach()


class Noisy(Plain):
    scale = 0.02

    def forward(self, x):
        self.draw += 1
        noise = torch.stack(
            [
                torch.randn(SHAPE, generator=keys.generator(0, image_id, self.draw))
                for image_id in self.image_ids
            ]
        )
        return self.logits(x + self.scale * noise)


class BarelyNoisy(Noisy):
    scale = 1e-7


class Probability(Plain):
    def forward(self, x):
        return torch.softmax(self.logits(x), dim=1)


class LogProbability(Plain):
    def forward(self, x):
        return torch.log_softmax(self.logits(x), dim=1)


class Root(Plain):
    """The plain model plus 0, whose gradient is NaN for images that begin with 0.5."""

    def forward(self, x):
        first = x.flatten(1)[:, :1]
        gap = torch.where(first == 0.5, 0 * first, torch.ones_like(first))
        return self.logits(x) + 0 * torch.sqrt(gap)


class Unreadable(Plain):
    """The plain model, but NaN for images that begin with 0.5."""

    def forward(self, x):
        return torch.where(x.flatten(1)[:, :1] == 0.5, torch.nan, self.logits(x))


def images():
    values = torch.rand((5, *SHAPE), generator=torch.Generator().manual_seed(1))
    values[2:4, 0, 0, 0] = 0.5
    return values


def symptoms_of(model, size=8):
    ids, labels, pictures = [f"image {i}" for i in range(5)], [0, 1, 2, 0, 1], images()
    parts = [slice(start, start + size) for start in range(0, 5, size)]
    return symptoms.symptoms(model, ((ids[p], labels[p], pictures[p]) for p in parts))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Plain, {}),
        (LogProbability, {}),
        (Quantised, {"zero_gradients": 5}),
        (Detached, {"zero_gradients": 5}),
        (Probability, {"probability_output": True}),
        (Root, {"nan_gradients": 2}),
        (Unreadable, {"nan_gradients": 2}),
    ],
)
def test_each_symptom_is_found_and_no_other(model, expected):
    found = symptoms_of(model())
    assert found.images == 5
    assert {name: getattr(found, name) for name in PLAIN} == PLAIN | expected


def test_a_defence_that_draws_is_seen():
    found = symptoms_of(Noisy())
    assert found.random_output and found.largest_difference > 1e-3
    assert found.zero_gradients == found.nan_gradients == 0


def test_noise_below_the_limit_is_measured_but_not_named():
    found = symptoms_of(BarelyNoisy())
    assert not found.random_output and 0 < found.largest_difference < symptoms.DIFFERENCE


@pytest.mark.parametrize("model", [Noisy, Quantised, Unreadable])
def test_the_number_of_images_in_flight_does_not_matter(model):
    together, alone = symptoms_of(model()), symptoms_of(model(), size=1)
    assert together.largest_difference == pytest.approx(alone.largest_difference, rel=1e-4)
    assert together.zero_gradients == alone.zero_gradients
    assert together.nan_gradients == alone.nan_gradients
    assert together.random_output == alone.random_output


@pytest.mark.parametrize("room", [1, 2, 3])
def test_a_batch_beyond_the_memory_is_halved_to_the_same_symptoms(room):
    class Card(Unreadable):
        def forward(self, x):
            if len(x) > room:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(x)

    assert symptoms_of(Card()) == symptoms_of(Unreadable())


def test_images_are_needed():
    with pytest.raises(ValueError, match="at least one image"):
        symptoms.symptoms(Plain(), [])
