"""Records of a batch that was cut for want of memory are those of the whole, in their order."""

from functools import partial

import pyarrow as pa
import pytest
import torch

from bandlimit.attacks import perturbations, records
from bandlimit.attacks.base import create
from bandlimit.attacks.catalogue import ATTACKS
from bandlimit.defenses import evaluation
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.smoothing import SmoothedKernels
from bandlimit.defenses.sweep import Setting, sweep
from bandlimit.models import architectures, memory
from bandlimit.models.batches import MicroBatches
from bandlimit.models.classifier import Classifier
from bandlimit.studies.frequency_principle.image import corruptions, heat_maps
from bandlimit.studies.high_frequency import components, smoothing
from bandlimit.studies.perturbation_spectra import measuring
from bandlimit.training.perturbations import Perturbation

NAMES = {"seed": 0, "dataset": "d", "model_name": "m"}
WAYS = {"one": {"kind": "fgm_l2", "epsilon": 0.5}, "two": {"kind": "fgm_l2", "epsilon": 1.0}}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = architectures.build("small_cnn_no_batchnorm", classes=4, channels=1, sides=(16, 16))
    # As a model is used once it is loaded: an image meets the same kernels in every batch.
    network = MicroBatches(network.eval(), 4)
    return Classifier(network, mean=[0.5], std=[0.25], shape=(1, 16, 16), classes=4).eval()


@pytest.fixture(scope="module")
def batch(model):
    images = torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    return [f"test/{row}" for row in range(7)], labels, images


def attacked(model, batch):
    attack = create(ATTACKS, "pgd", steps=2)
    return records.generate(model, attack, [batch], epsilons=[0.1, 0.2], **NAMES)


def corrupted(model, batch):
    return corruptions.evaluate(
        [(model, None), (model, {"part": "low", "radius": 3})],
        [batch],
        corruptions=["gaussian_noise", "brightness"],
        severity=3,
        noise_norm=1.0,
        bandwidths=[3, 5],
        high_pass=5,
        seed=0,
        dataset="d",
    )


def waved(model, batch):
    pairs = heat_maps.frequencies((16, 16), stride=4)
    models = {"a": model, "b": model}
    return heat_maps.evaluate(models, lambda: [batch], pairs, norms=[1.0, 2.0], seed=0, dataset="d")


def smoothed(model, batch):
    made = partial(_smoothed, model)
    attacks = smoothing.Attacks([0.1], 2, 0.5)
    return smoothing.evaluate(model, made, [batch], [1.0], attacks, **NAMES)


def _smoothed(model, rho, normalize):
    return SmoothedKernels(model, rho=rho, normalize=normalize)


def parted(model, batch):
    return components.evaluate(model, [batch], [3.0, 5.0])


def averaged(model, batch):
    ids, labels, images = batch
    settings = [Setting(1.0, 2), Setting(2.0, 3)]
    for found in sweep(
        model, model.network, images, ids, labels, settings, name=DrawName(0, "p", "d", "m")
    ):
        yield evaluation.defended(ids, [None] * len(ids), labels, found)


def perturbed(model, batch):
    images, spectra = [], []
    ways = {name: Perturbation(**way) for name, way in WAYS.items()}
    for name, table, x, d in perturbations.generate(model, ways, [batch], **NAMES):
        images.append(table)
        spectra.append(measuring.spectra(name, table["image_id"].to_pylist(), x, d))
    return pa.concat_tables(images), pa.concat_tables(spectra)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    ("made", "groups"),
    [
        (attacked, 1),
        (corrupted, None),
        (waved, 1),
        (smoothed, None),
        (parted, None),
        (averaged, None),
        (perturbed, len(WAYS)),
    ],
)
def test_a_batch_that_is_cut_has_the_rows_of_the_whole(model, batch, made, groups, size):
    def work(given):
        if len(given[-1]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        found = made(model, given)
        return found if isinstance(found, tuple) else pa.concat_tables(found)

    room = 7
    whole = memory.Halving(work, groups=groups)(batch)
    room = size
    cut = memory.Halving(work, groups=groups)(batch)
    if not isinstance(whole, tuple):
        whole, cut = (whole,), (cut,)
    for one, other in zip(whole, cut, strict=True):
        assert len(one) >= 7
        assert other.schema == one.schema
        for name in one.column_names:
            same(one[name].to_pylist(), other[name].to_pylist())


def same(one, other):
    """Hold values against each other; a sum over pixels may round otherwise in another batch."""
    for a, b in zip(one, other, strict=True):
        if isinstance(a, list):
            same(a, b)
        elif isinstance(a, float):
            assert a == pytest.approx(b, rel=1e-9, abs=1e-12)
        else:
            assert a == b
