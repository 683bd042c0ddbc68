"""Corrupted images and noise of a band, shown to networks, and what tables make of the answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

from bandlimit.files import store
from bandlimit.models.classifier import Classifier
from bandlimit.spectral import fourier
from bandlimit.spectral.components import component
from bandlimit.statistics import crossed
from bandlimit.studies.frequency_principle.image import (
    corruptions,
    corruptions_figures,
    corruptions_rates,
    corruptions_records,
    spectra_figures,
)

SETTINGS = {
    "corruptions": ["gaussian_noise", "fog"],
    "severity": 3,
    "noise_norm": 2.0,
    "bandwidths": [3, 7],
    "high_pass": 9,
    "seed": 1,
    "dataset": "some",
}


class Fixed(nn.Module):
    """Class 1 where the mean of an image exceeds a bound, else 0; it keeps what it was shown."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        bright = x.mean((1, 2, 3)) - self.bound
        return torch.stack([-bright, bright], dim=1)


def classifier(bound):
    return Classifier(Fixed(bound), mean=[0], std=[1], shape=(1, 12, 12), classes=2)


def images(count=6):
    x = torch.randint(0, 256, (count, 1, 12, 12), generator=torch.Generator().manual_seed(2)) / 255
    return [f"i{k}" for k in range(count)], torch.arange(count) % 2, x.float()


def split(size):
    ids, labels, x = images()
    for start in range(0, len(ids), size):
        part = slice(start, start + size)
        yield ids[part], labels[part], x[part]


def shown(models, size=4):
    frame = pa.concat_tables(corruptions.evaluate(models, split(size), **SETTINGS)).to_pandas()
    order = ["kind", "name", "bandwidth", "image_id"]
    return frame.sort_values(order).reset_index(drop=True)


def test_each_network_answers_on_each_image_behind_its_own_filter():
    filtered = {"part": "low", "radius": 2}
    plain, behind = classifier(0.5), classifier(0.5)
    frame = shown([(plain, None), (behind, filtered)], size=6)
    ids, labels, x = images()
    clean = frame[frame["kind"] == "clean"]
    assert clean["image_id"].tolist() == ids
    low = component(x.double(), **filtered).float()
    torch.testing.assert_close(plain.network.seen[0], x)
    torch.testing.assert_close(behind.network.seen[0], low)
    for place, seen in enumerate((x, low)):
        right = (seen.mean((1, 2, 3)) > 0.5) == labels.bool()
        assert [own[place] for own in clean["correct"]] == right.tolist()
    # Noise of a band is shown to the first alone.
    assert {len(own) for own in frame[frame["kind"] == "band"]["correct"]} == {1}
    assert len(behind.network.seen) == 3 and len(plain.network.seen) == 7
    assert frame.groupby(["kind", "name", "bandwidth"], dropna=False).size().eq(6).all()


def test_rows_do_not_depend_on_batches():
    one, two = (shown([(classifier(0.4), None)], size) for size in (6, 1))
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize("part", ["low", "high"])
def test_noise_of_a_band_has_its_norm_in_each_channel_and_none_elsewhere(part):
    noise = torch.randn(3, 2, 12, 12, generator=torch.Generator().manual_seed(1)).double()
    found = corruptions.band_noise(noise, part, 5, 2.0)
    assert found.norm(dim=(2, 3)).numpy() == pytest.approx(np.full((3, 2), 2.0))
    inside = (np.abs(np.arange(12) - 6)[:, None] <= 2) & (np.abs(np.arange(12) - 6)[None, :] <= 2)
    power = fourier.power(found).numpy()
    assert power[..., ~inside if part == "low" else inside].max() < 1e-20
    assert power[..., inside if part == "low" else ~inside].min() > 0


def test_the_share_of_high_frequencies_is_known_of_waves():
    places = torch.arange(12).double()
    slow, fast = (torch.cos(2 * torch.pi * k * places / 12) for k in (1, 5))
    change = torch.stack([slow, fast, slow + 2 * fast, 0 * slow])[:, None, None, :]
    found = corruptions.high_fraction(change.expand(4, 1, 12, 12).contiguous(), 9)
    assert found[:3].numpy() == pytest.approx([0, 1, 0.8])
    assert torch.isnan(found[3])


def answers(rates, images=400):
    """Return records in which two networks of one model each are right at given rates."""
    rows = []
    for name, high, (natural, other) in rates:
        for place in range(images):
            right = [place < natural * images, place < other * images]
            kind = "clean" if name is None else "corrupted"
            rows.append((f"i{place}", 0, kind, name, None, 1.0, high, right))
    return pd.DataFrame(rows, columns=corruptions_records.SCHEMA.names)


def experiment():
    facts = {"batchnorm": False, "part": None, "size": None, "shape": None}
    first = {"name": "one", "models": ["one"], "training": "natural", "natural": None, **facts}
    second = {"name": "two", "models": ["two"], "training": "gaussian", "natural": "one", **facts}
    own = {"dataset": "some", "document": None, "stand_in": True, "classes": 10}
    return {**own, "networks": [first, second]}


def added(e, frame):
    """Return these records added up."""
    found = corruptions_rates.Answers(e)
    found.add(frame)
    return found


@pytest.mark.parametrize(("shards", "batch", "rows"), [(1, 7, 4096), (3, 2, 1), (3, 50, 40)])
def test_tables_do_not_depend_on_shards_batches_and_pieces(
    tmp_path, monkeypatch, shards, batch, rows
):
    """A shard has batches of images, each with rows of all that was done to them."""
    facts = {"batchnorm": False, "training": "natural", "natural": "one", "shape": "radius"}
    behind = {"name": "low", "models": ["low"], "part": "low", "size": 4, **facts}
    e = {**experiment(), "shards": shards}
    e["networks"] = [*e["networks"], behind]
    draws = np.random.default_rng(0)
    changes = [("clean", None, None), *(("corrupted", name, None) for name in "bca")]
    changes += [("band", part, size) for size in (3, 5) for part in ("low", "high")]
    known = {
        (k, change): (draws.random(3) < 0.6, draws.random() ** 9)
        for k in range(23)
        for change in changes
    }

    def tables_in(count, together):
        files = []
        for shard in range(count):
            places = range(shard, 23, count)
            found = []
            for start in range(0, len(places), together):
                for change in changes:
                    for k in places[start : start + together]:
                        right, high = known[k, change]
                        own = right[:2] if change[0] == "band" else right
                        share = None if change[0] == "clean" else high
                        found.append((f"i{k}", 0, *change, 1.0, share, own.tolist()))
            frame = pd.DataFrame(found, columns=corruptions_records.SCHEMA.names)
            files.append(str(tmp_path / f"{count} {shard}.parquet"))
            store.write(
                files[-1], pa.Table.from_pandas(frame, schema=corruptions_records.SCHEMA), {}
            )
        return corruptions_rates.frames(files, [{**e, "shards": count}])

    whole = tables_in(1, 23)
    right = np.array([known[k, ("corrupted", "b", None)][0] for k in range(23)], dtype=float)
    row = whole["corruption_rates"].query("network == 'two' and corruption == 'b'").iloc[0]
    mean, _, low, high = crossed((right[:, 1] - right[:, 0])[None])
    assert (row["change"], row["change_low"], row["change_high"]) == pytest.approx(
        (mean, low, high)
    )
    assert len(whole["band_noise"]) == 8 and len(whole["band_pass"]) == 1
    assert whole["corruption_slopes"]["network"].tolist() == ["two", "low"]
    monkeypatch.setattr(corruptions_rates, "ROWS", rows)
    for name, frame in tables_in(shards, batch).items():
        pd.testing.assert_frame_equal(frame, whole[name], check_exact=True)


def test_slope_and_residual_are_those_of_the_line_through_the_corruptions():
    rates = [(None, None, (0.9, 0.9))]
    rates += [(name, x, (0.5, 0.5 + 0.4 * x)) for name, x in (("a", 0.0), ("b", 0.5), ("c", 1.0))]
    e = experiment()
    found = added(e, answers(rates))
    row = corruptions_rates._slope(found, e["networks"][1])
    assert (row["slope"], row["start"], row["residual"]) == pytest.approx((0.4, 0, 0), abs=1e-9)
    assert row["end"] == pytest.approx(0.4)
    # Corruptions lie on the line, so that images alone are left: the slope is what the last adds
    # less what the first does, which is 1 on 160 of 400 images.
    _, _, low, high = crossed((np.arange(400) < 160)[None] / 2)
    assert (row["slope_low"], row["slope_high"]) == pytest.approx((2 * low, 2 * high))
    # Off the line by 0.1, -0.2 and 0.1: the slope stays, the residual is 0.1 sqrt(2).
    rates[1:] = [("a", 0.0, (0.5, 0.6)), ("b", 0.5, (0.5, 0.5)), ("c", 1.0, (0.5, 1.0))]
    row = corruptions_rates._slope(added(e, answers(rates)), e["networks"][1])
    assert row["slope"] == pytest.approx(0.4) and row["residual"] == pytest.approx(0.02**0.5)
    assert row["slope_low"] < 0 < row["slope_high"]


def test_a_line_is_that_of_polyfit_and_two_corruptions_leave_no_interval():
    x, y = np.array([0.1, 0.3, 0.35, 0.9]), np.array([0.2, -0.1, 0.4, 0.3])
    slope, start = np.polyfit(x, y, 1)
    assert corruptions_rates.line(x) @ y == pytest.approx([slope, start, start + slope])
    e = experiment()
    rates = [(None, None, (0.9, 0.9)), ("a", 0.0, (0.5, 0.6)), ("b", 0.5, (0.5, 0.7))]
    row = corruptions_rates._slope(added(e, answers(rates)), e["networks"][1])
    assert row["slope"] == pytest.approx(0.2)
    assert np.isnan([row["slope_low"], row["slope_high"], row["start_low"]]).all()


def test_intervals_of_a_line_cover_with_few_networks():
    """95 of 100 studies or more: two networks, ten corruptions, and images of their own ease."""
    draws = np.random.default_rng(0)
    e, seeds, count, images = experiment(), 2, 10, 40
    for network in e["networks"]:
        network["models"] = [network["name"]] * seeds
    covered = 0
    for _ in range(100):
        x = draws.random(count)
        # Of corruptions, of networks in the slope, and of images; the true line is 0.3 x - 0.1.
        off, skill = draws.normal(0, 0.1, count), draws.normal(0, 0.15, seeds)
        other = 0.5 + 0.3 * x - 0.1 + off + skill[:, None] * x  # S x P
        rows = [(f"i{k}", 0, "clean", None, None, 1.0, None, [True] * 4) for k in range(images)]
        for c in range(count):
            right = np.concatenate(
                [draws.random((images, seeds)) < 0.5, draws.random((images, seeds)) < other[:, c]],
                axis=1,
            )
            rows += [
                (f"i{k}", 0, "corrupted", f"c{c}", None, 1.0, x[c], right[k].tolist())
                for k in range(images)
            ]
        frame = pd.DataFrame(rows, columns=corruptions_records.SCHEMA.names)
        row = corruptions_rates._slope(added(e, frame), e["networks"][1])
        covered += row["slope_low"] <= 0.3 <= row["slope_high"]
    assert covered >= 93


def test_rates_are_those_of_each_network_and_their_paired_difference():
    e = experiment()
    found = added(e, answers([(None, None, (0.9, 0.8)), ("a", 0.3, (0.5, 0.7))]))
    one, two = (list(corruptions_rates._rates(found, network)) for network in e["networks"])
    assert [row["accuracy"] for row in one] == pytest.approx([0.9, 0.5])
    assert [row["change"] for row in two] == pytest.approx([-0.1, 0.2])
    assert two[1]["change_low"] < 0.2 < two[1]["change_high"]
    assert two[1]["high_fraction"] == pytest.approx(0.3)
    assert np.isnan(one[1]["change"])


def test_spectra_of_corruptions_are_means_over_images():
    found = spectra_figures.of_corruptions(
        ((ids, y.numpy(), x.numpy()) for ids, y, x in split(4)),
        corruptions=["contrast"],
        severity=3,
        seed=1,
        dataset="some",
    )
    _, _, x = images()
    spectra = np.abs(np.fft.fftshift(np.fft.fft2(x.double().numpy()), axes=(2, 3)))[:, 0]
    assert found["images"] == pytest.approx(spectra.mean(0))
    # Contrast takes away 0.6 of all but frequency 0, which it leaves.
    wanted = 0.6 * spectra.mean(0)
    wanted[6, 6] = 0
    assert found["contrast"] == pytest.approx(wanted, abs=1e-9)
    figure = spectra_figures.draw(found, "mean", shared=False)
    assert figure.axes[0].images[0].get_extent() == [-6.5, 5.5, 5.5, -6.5]


def test_only_images_that_are_wrong_count_as_fooled():
    changes = np.zeros((3, 1, 4, 4))
    changes[:, 0, 0, 0] = (1, 2, 4)
    values, count = spectra_figures.of_fooled(changes, [0, 1, 2], [5, 1, 5])
    assert count == 2 and values == pytest.approx(np.full((4, 4), 2.5))
    assert spectra_figures.of_fooled(changes[:1], [0], [0]) == (None, 0)


def test_figures_draw_each_network_once():
    e = experiment()
    names = ("a", "b", "c")
    rates = [(None, None, (0.9, 0.9)), *((n, k / 3, (0.5, 0.6)) for k, n in enumerate(names))]
    found = added(e, answers(rates, 50))
    rows = [row for n in e["networks"] for row in corruptions_rates._rates(found, n)]
    slope = corruptions_rates._slope(found, e["networks"][1])
    figure = corruptions_figures.draw_corruptions(pd.DataFrame(rows), pd.DataFrame([slope]))
    (panel,) = figure.axes
    # Points, the line, and the axis.
    assert [len(line.get_xdata()) for line in panel.lines] == [3, 2, 2]
    with pytest.raises(ValueError, match="columns .*'slope'.* are missing"):
        corruptions_figures.draw_corruptions(
            pd.DataFrame(rows), pd.DataFrame([slope]).drop(columns="slope")
        )
