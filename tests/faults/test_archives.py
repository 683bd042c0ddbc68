"""Archives that would write, or read, outside of their place: nothing leaves it."""

import io
import os
import tarfile

import pytest

from bandlimit.data.make import make_dataset
from bandlimit.data.source import Source
from bandlimit.errors import UserError

BATCH = "cifar-10-batches-py/test_batch"
LINKS = {
    "symbolic link": {"type": tarfile.SYMTYPE, "linkname": "../../secret"},
    "absolute link": {"type": tarfile.SYMTYPE, "linkname": "/etc/hostname"},
    "hard link": {"type": tarfile.LNKTYPE, "linkname": "../../secret"},
    "link to itself": {"type": tarfile.SYMTYPE, "linkname": "test_batch"},
    "device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
    "pipe": {"type": tarfile.FIFOTYPE},
    "folder": {"type": tarfile.DIRTYPE},
}


def archive(path, name, content=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(content))
    return Source("cifar10", "cifar10", path=path)


@pytest.fixture
def inner(tmp_path):
    """Return a folder in a folder, beside which lies what is nobody's business."""
    (tmp_path / "secret").write_bytes(b"a secret")
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    return folder


def there(folder):
    return sorted(
        os.path.join(place, name) for place, _, names in os.walk(folder) for name in names
    )


@pytest.mark.parametrize("kind", LINKS)
def test_a_member_that_is_no_file_is_missing(inner, tmp_path, kind):
    source = archive(inner / "cifar.tar.gz", BATCH, **LINKS[kind])
    with pytest.raises(UserError, match="is incomplete; missing: test_batch") as caught:
        make_dataset(source, inner / "out.parquet", split="test")
    assert "a secret" not in str(caught.value)
    assert there(tmp_path) == [str(inner / "cifar.tar.gz"), str(tmp_path / "secret")]


@pytest.mark.parametrize("name", ["../../evil", "/tmp/bandlimit-evil", "a/../../../evil"])
def test_a_name_that_leads_elsewhere_leads_nowhere(inner, tmp_path, name):
    source = archive(inner / "cifar.tar.gz", f"{name}/test_batch", b"no batch")
    with pytest.raises(UserError, match="is not a CIFAR-10 batch"):
        make_dataset(source, inner / "out.parquet", split="test")
    assert there(tmp_path) == [str(inner / "cifar.tar.gz"), str(tmp_path / "secret")]
    assert not os.path.exists("/tmp/bandlimit-evil")
