"""A shard may have no image, and an attack no success: records are then empty, not missing."""

import torch

from bandlimit.attacks import records as attacked
from bandlimit.attacks.adaptive import records as adaptive
from bandlimit.defenses import evaluation
from bandlimit.files import store
from bandlimit.models.classifier import Classifier
from bandlimit.studies.robustness import judging


def classifier():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    return Classifier(network, mean=[0.5], std=[0.2], shape=(1, 2, 2), classes=3)


def test_no_images_have_no_predictions(tmp_path):
    table = evaluation.predicted(classifier(), [])
    assert table.schema.equals(evaluation.SCHEMA) and len(table) == 0
    evaluation.write(tmp_path / "none.parquet", table, {"rule": "x"})
    assert store.read(tmp_path / "none.parquet").schema.names == evaluation.SCHEMA.names


def test_predictions_do_not_depend_on_empty_or_other_batches():
    model = classifier()
    images = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    ids, labels = list("abcde"), torch.tensor([0, 1, 2, 0, 1])
    whole = evaluation.predicted(model, [(ids, labels, images)])
    parts = [(ids[a:b], labels[a:b], images[a:b]) for a, b in ((0, 2), (2, 2), (2, 5))]
    assert evaluation.predicted(model, parts).equals(whole)
    with torch.no_grad():
        assert whole["prediction"].to_pylist() == model(images).argmax(1).tolist()


def test_no_attacked_images_are_checked_and_read(tmp_path):
    path = tmp_path / "none.parquet"
    store.write(path, attacked.schema((1, 2, 2)).empty_table())
    assert attacked.recheck(path, classifier(), []) == 0
    assert list(evaluation.inputs(path, 4, "1of1", clean=False)) == []
    store.write(path, adaptive.schema((1, 2, 2)).empty_table())
    assert adaptive.recheck(path, []) == 0
    assert list(judging.batches(path, 4, names=("epsilon",))) == []
