"""Package Fashion-MNIST: the official test set and the first 10,000 training images as Parquet.

The four gzipped IDX files are those of the authors, as published or as Debian's package
dataset-fashion-mnist holds them: without name and date in the gzip header, hence another sha256,
with the same content.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bandlimit.data import arrays, make
from bandlimit.errors import UserError
from bandlimit.files import store

IMAGES = 10_000
"""Images per split: all of the test set, the first of the training set."""

SHA256 = {
    "train-images-idx3-ubyte.gz": {
        "published": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "Debian": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    },
    "train-labels-idx1-ubyte.gz": {
        "published": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "Debian": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    },
    "t10k-images-idx3-ubyte.gz": {
        "published": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "Debian": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    },
    "t10k-labels-idx1-ubyte.gz": {
        "published": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "Debian": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    },
}


def package(source: Path, out: Path) -> None:
    """Write out/train.parquet and out/test.parquet from the IDX files in the folder `source`.

    Raises:
        UserError: a file is missing, or its checksum is another.
    """
    for name, known in SHA256.items():
        if not (source / name).is_file():
            raise UserError(f"The folder {str(source)!r} has no file {name!r}.")
        digest = store.sha256(source / name)
        if digest not in known.values():
            raise UserError(
                f"The file {str(source / name)!r} has the sha256 {digest}; "
                f"allowed: {', '.join(known.values())}."
            )
    for split, prefix in {"train": "train", "test": "t10k"}.items():
        images = arrays.read_idx(source / f"{prefix}-images-idx3-ubyte.gz")[:IMAGES, None]
        labels = arrays.read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")[:IMAGES]
        image_ids = [f"{split}/{row:05d}" for row in range(IMAGES)]
        rows = make.table(image_ids, labels.tolist(), [split] * IMAGES, images)
        store.write(out / f"{split}.parquet", rows)


def main() -> None:
    """Read the command line and package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the four .gz files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    try:
        package(arguments.source, arguments.out)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
