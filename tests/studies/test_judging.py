"""What defences said of images becomes records, and adversarial records become batches."""

import numpy as np
import pyarrow as pa
import torch

from bandlimit.files import store
from bandlimit.studies.robustness import judging


def test_rows_go_image_by_image_and_draw_by_draw():
    said = np.array([[1, 2], [3, 3], [0, 2]])
    table = judging.rows(
        judging.CONTROLS,
        said,
        torch.tensor([1, 3, 2]),
        image_id=["a", "b", "c"],
        inputs="clean",
        epsilon=[None, 0.5, 1.0],
        control="flip",
    )
    assert table.schema == judging.CONTROLS
    assert table.to_pydict() == {
        "image_id": ["a", "a", "b", "b", "c", "c"],
        "inputs": ["clean"] * 6,
        "epsilon": [None, None, 0.5, 0.5, 1.0, 1.0],
        "control": ["flip"] * 6,
        "label": [1, 1, 3, 3, 2, 2],
        "draw": [0, 1, 0, 1, 0, 1],
        "prediction": [1, 2, 3, 3, 0, 2],
        "correct": [True, False, True, True, False, True],
    }


def test_batches_hold_what_is_kept_and_no_other(tmp_path):
    images = np.random.default_rng(0).random((5, 1, 2, 2), dtype=np.float32)
    table = pa.table(
        {
            "image_id": list("aabcd"),
            "label": pa.array([1, 1, 2, 3, 4], pa.int64()),
            "epsilon": [0.1, 0.2, 0.1, 0.1, 0.1],
            "image": store.image_column(images),
        }
    )
    path = tmp_path / "records.parquet"
    store.write(path, table)
    for keep, places in ((frozenset("ad"), [0, 1, 4]), (None, [0, 1, 2, 3, 4])):
        found = list(judging.batches(str(path), 2, keep, ["epsilon"]))
        ids = [name for columns, _, _ in found for name in columns["image_id"]]
        assert ids == [list("aabcd")[place] for place in places]
        bounds = [value for columns, _, _ in found for value in columns["epsilon"]]
        assert bounds == [[0.1, 0.2, 0.1, 0.1, 0.1][place] for place in places]
        assert torch.equal(torch.cat([part for _, _, part in found]), torch.tensor(images[places]))
        labels = torch.cat([part for _, part, _ in found])
        assert labels.tolist() == [[1, 1, 2, 3, 4][place] for place in places]
