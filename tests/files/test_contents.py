import contextlib
import hashlib
import io
import json
import os

import matplotlib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bandlimit.errors import UserError
from bandlimit.files import certificates, contents, store, tables
from bandlimit.models import architectures, weights
from bandlimit.plots import files

matplotlib.use("Agg")

TRICKY = {"note": 'a--b---c-->"}{\\ <!-- größer (ü) &amp;\n%', "n": -1e-9, "l": [None, True, {}]}
PROOF = {"format": certificates.FORMAT, "rule": "figure_2", "params": TRICKY}
FRAME = pd.DataFrame({"attack": ["pgd", None], "rate": [0.5, float("nan")], "n": [1, 2]})
CIFAR = {
    "architecture": "cifar_resnet20",
    "classes": 10,
    "shape": [1, 28, 28],
    "mean": [0.5],
    "std": [0.25],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return a folder with one file of each kind, all with the same certificate."""
    folder = tmp_path_factory.mktemp("all kinds")
    paths = {name: folder / f"table.{name}" for name in ("parquet", "md", "html", "tex", "csv")}
    tables.save(
        tables.Table(
            FRAME,
            {"attack": tables.Column("Attack"), "rate": tables.Column("Rate", 1, 100)},
            title="Title",
            note="A note with {braces} and ε.",
        ),
        parquet=paths["parquet"],
        markdown=paths["md"],
        html=paths["html"],
        latex=paths["tex"],
        csv=paths["csv"],
        certificate=PROOF,
    )
    figure = matplotlib.figure.Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2], [3, 4])
    files.save(figure, *(folder / f"figure.{form}" for form in ("png", "pdf", "svg")), PROOF)
    network = architectures.build("cifar_resnet20", classes=10, channels=1)
    weights.save(folder / "a.safetensors", network.state_dict(), **CIFAR, certificate=PROOF)
    contents.write_text(folder / "page.html", "<p>ü</p>\n{proof}\n", PROOF, "<!-- {} -->")
    return folder


KINDS = (
    "table.parquet",
    "table.md",
    "table.html",
    "table.tex",
    "table.csv",
    "figure.png",
    "figure.pdf",
    "figure.svg",
    "a.safetensors",
    "page.html",
)


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_carries_its_certificate_and_agrees_with_it(results, name):
    found, content = contents.read(results / name)
    assert {key: found[key] for key in PROOF} == PROOF
    assert found["file"] == name
    assert found["content"] == content
    assert contents.certificate(results / name) == found
    assert contents.fault(results / name) is None


def test_equal_tables_are_equal_files(tmp_path):
    for place in ("one", "two"):
        store.write(tmp_path / place / "a.parquet", pa.table({"a": [1]}), PROOF)
    one, two = ((tmp_path / place / "a.parquet").read_bytes() for place in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("name", KINDS)
def test_a_renamed_file_keeps_its_certificate(results, tmp_path, name):
    copy = tmp_path / "mailed"
    copy.write_bytes((results / name).read_bytes())
    assert contents.certificate(copy)["file"] == name
    assert contents.fault(copy) is None


@pytest.mark.parametrize("name", KINDS)
def test_a_byte_changed_anywhere_is_found(results, tmp_path, name):
    """Every byte of a small file, a sample of a large one; what stays unseen means nothing."""
    data = (results / name).read_bytes()
    rng = np.random.default_rng(7)
    places = range(len(data)) if len(data) < 3000 else rng.choice(len(data), 150, replace=False)
    copy = tmp_path / name
    unseen = []
    for place in map(int, places):
        changed = bytearray(data)
        changed[place] ^= 1
        copy.write_bytes(changed)
        try:
            found = contents.certificate(copy)
        except UserError:
            continue
        if found is not None and contents.fault(copy) is None:
            unseen.append(place)
            if name == "table.parquet":
                # Reading all at once may meet what reading by and by passes over.
                with contextlib.suppress(UserError):
                    held = store.read(results / name).to_pydict()
                    assert store.read(copy).to_pydict() == held
    # Containers have bytes that decoding does not ask for; the sha256 of the whole file does.
    if name != "table.parquet":
        allowed = {"figure.png": 0.05, "figure.pdf": 0.2, "a.safetensors": 0.02}.get(name, 0)
        assert len(unseen) <= allowed * len(places)


@pytest.mark.parametrize("name", KINDS)
def test_an_edited_certificate_shows(results, tmp_path, name):
    data = (results / name).read_bytes()
    assert data.count(b"figure_2") == 1
    copy = tmp_path / name
    copy.write_bytes(data.replace(b"figure_2", b"figure_3"))
    if name == "figure.png":
        # The chunk's own checksum notices first.
        assert contents.fault(copy)
    else:
        assert "the seal does not fit" in contents.fault(copy)


def test_a_picture_encoded_anew_has_the_same_content(results, tmp_path):
    with Image.open(results / "figure.png") as image:
        image.save(tmp_path / "again.png", compress_level=1)
    assert contents.certificate(tmp_path / "again.png") is None
    assert contents.digest(tmp_path / "again.png") == contents.digest(results / "figure.png")
    with Image.open(results / "figure.png") as image:
        image.putpixel((0, 0), (1, 2, 3, 255))
        image.save(tmp_path / "other.png")
    assert contents.digest(tmp_path / "other.png") != contents.digest(results / "figure.png")


# What a table holds, however it is encoded

KINDS_OF_COLUMNS = pa.table(
    {
        "int": pa.array([1, None, 3, 4]),
        "float": pa.array([0.5, float("nan"), None, -0.0]),
        "text": pa.array(["a", "", None, "ü"]),
        "bytes": pa.array([b"a", b"", None, b"\0"]),
        "flag": pa.array([True, None, False, True]),
        "list": pa.array([[1], [], None, [2, 3]]),
        "texts": pa.array([["a", "b"], [], None, ["ab", ""]]),
        "struct": pa.array([{"x": 1, "y": "a"}, {"x": None, "y": "b"}, None, {"x": 2, "y": None}]),
        "image": store.image_column(np.arange(16, dtype=np.float32).reshape(4, 1, 2, 2)),
        "none": pa.nulls(4),
    }
)


def content(table):
    digest = store.Content(table.schema)
    digest.update(table)
    return digest.hexdigest()


def test_content_is_the_same_however_a_table_is_cut():
    whole = content(KINDS_OF_COLUMNS)
    for size in (1, 2, 3):
        digest = store.Content(KINDS_OF_COLUMNS.schema)
        for start in range(0, 4, size):
            digest.update(KINDS_OF_COLUMNS.slice(start, size))
        assert digest.hexdigest() == whole
    assert content(KINDS_OF_COLUMNS.slice(1)) != whole


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_content_is_the_same_however_a_table_is_encoded(tmp_path, compression):
    path = tmp_path / "a.parquet"
    pq.write_table(KINDS_OF_COLUMNS, path, compression=compression, row_group_size=3)
    assert store.content(path) == content(KINDS_OF_COLUMNS)


def test_content_has_no_eye_for_long_offsets_and_dictionaries():
    text = pa.table({"a": pa.array(["x", None, "x"])})
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert content(text.cast(pa.schema([("a", kind)]))) == content(text)


@pytest.mark.parametrize("column", KINDS_OF_COLUMNS.column_names)
def test_content_has_an_eye_for_each_column(column):
    """Another order of the values, another name, and what is missing where."""
    number = KINDS_OF_COLUMNS.column_names.index(column)
    values = KINDS_OF_COLUMNS.column(column)
    whole = content(KINDS_OF_COLUMNS)
    renamed = [f"{n}!" if n == column else n for n in KINDS_OF_COLUMNS.column_names]
    assert content(KINDS_OF_COLUMNS.rename_columns(renamed)) != whole
    if column != "none":
        other = values.take([1, 0, 2, 3])
        assert content(KINDS_OF_COLUMNS.set_column(number, column, other)) != whole


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([["a"], ["b", "c"]], [["a", "b"], ["c"]]),
        ([None, 1], [1, None]),
        ([0, None], [0, 0]),
        ([[None]], [None]),
        ([1, 2], [1.0, 2.0]),
    ],
)
def test_content_tells_values_apart_that_share_bytes(one, two):
    assert content(pa.table({"a": one})) != content(pa.table({"a": two}))


def test_a_table_that_was_read_and_written_carries_one_certificate(tmp_path):
    store.write(tmp_path / "a.parquet", pa.table({"a": [1]}), {"rule": "first"})
    store.write(tmp_path / "b.parquet", store.read(tmp_path / "a.parquet"), {"rule": "second"})
    assert contents.certificate(tmp_path / "b.parquet")["rule"] == "second"
    store.write(tmp_path / "c.parquet", store.read(tmp_path / "a.parquet"))
    assert contents.certificate(tmp_path / "c.parquet") is None


# Text


def test_a_certificate_is_one_ascii_line_that_ends_no_comment():
    text = certificates.as_text(TRICKY)
    assert text.isascii()
    assert not {"\n", "<", ">", "&"} & set(text)
    assert "--" not in text
    assert json.loads(text) == TRICKY
    assert certificates.as_text(dict(reversed(TRICKY.items()))) == text


def test_the_digest_of_a_text_is_of_what_stands_around_its_certificate(tmp_path):
    contents.write_text(tmp_path / "a.md", "# Title\n{proof}\nend\n", PROOF, "<!-- {} -->")
    rest = f"# Title\n<!-- {certificates.MARK}  -->\nend\n"
    assert contents.digest(tmp_path / "a.md") == hashlib.sha256(rest.encode()).hexdigest()


def test_files_without_certificate(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert contents.certificate(tmp_path / "a.csv") is None
    assert contents.fault(tmp_path / "a.csv") is None
    assert contents.digest(tmp_path / "a.csv") == store.sha256(tmp_path / "a.csv")


def buffer_png():
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"PAR1",
        b"\x89PNG\r\n\x1a\nxx",
        buffer_png()[:-28],
        b"# bandlimit certificate: {",
        b"%PDF-1.4 /Keywords (bandlimit certificate: {)",
        b"\x05\0\0\0\0\0\0\0{bad}",
    ],
)
def test_damaged_files_are_named_in_one_sentence(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        contents.read(path)
    assert os.fspath(path) in str(error.value)
    assert str(error.value).endswith(".")
    assert contents.fault(path) == str(error.value)


@pytest.mark.parametrize("text", ['MARK = "bandlimit certificate:"\n', "bandlimit certificate: 3"])
def test_a_mark_alone_is_no_certificate(tmp_path, text):
    (tmp_path / "a.py").write_text(text)
    assert contents.certificate(tmp_path / "a.py") is None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="can't be read: No such file"):
        contents.certificate(tmp_path / "none")


def test_another_format_is_told(tmp_path):
    store.write(tmp_path / "a.parquet", pa.table({"a": [1]}), {**PROOF, "format": 1})
    assert "has format 1, not 3" in contents.fault(tmp_path / "a.parquet")


# What desktop programs do


def crlf(data):
    return data.replace(b"\n", b"\r\n")


def marked(data):
    return contents.BOM + data


@pytest.mark.parametrize("name", ["table.csv", "table.md", "table.tex", "table.html", "figure.svg"])
@pytest.mark.parametrize("change", [crlf, marked, lambda data: marked(crlf(data))])
def test_a_text_saved_by_a_desktop_program_means_the_same(results, tmp_path, name, change):
    data = (results / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(change(data))
    assert contents.read(path) == contents.read(results / name)
    assert contents.fault(path) is None
    assert contents.habits(results / name) is None
    said = contents.habits(path)
    assert said == contents.habits(path, hashlib.sha256(data).hexdigest())
    assert ("byte order mark" in said) == path.read_bytes().startswith(contents.BOM)
    assert ("ends of lines of Windows" in said) == (b"\r\n" in path.read_bytes())


def test_other_values_are_no_habit(results, tmp_path):
    path, data = tmp_path / "table.csv", (results / "table.csv").read_bytes()
    path.write_bytes(marked(crlf(data.replace(b"0.5", b"0.6"))))
    assert "what it holds was changed" in contents.fault(path)
    assert contents.habits(path, hashlib.sha256(data).hexdigest()) is None


def test_a_blank_certificate_is_filled_as_if_it_was_sealed_and_written_anew():
    known = {"rule": "draw", "tail": ["z"], "inputs": {"a": {"content": "1", "seal": "2"}}}
    blank = certificates.as_text(certificates.blank(known, "results/page.html"))
    sealed = certificates.sealed(known, "results/page.html", "c" * 64)
    assert certificates.filled(blank, "c" * 64) == certificates.as_text(sealed)


def test_the_certificate_of_a_picture_is_read_without_its_pixels(results, tmp_path):
    path = results / "figure.png"
    data, found = path.read_bytes(), contents.certificate(path)
    place = data.rindex(b"IDAT") + 40
    spoilt = tmp_path / "figure.png"
    spoilt.write_bytes(data[:place] + b"\0" * 40 + data[place + 40 :])
    assert contents.certificate(spoilt) == found
    assert contents.fault(spoilt) is not None
    # Text may stand behind the pixels, where the last counts, and a file that ends early has none.
    start = data.index(certificates.KEY.encode()) - 8
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    spoilt.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    assert contents.read(spoilt) == contents.read(path)
    spoilt.write_bytes(data[: end + 30])
    with pytest.raises(UserError, match="damaged"):
        contents.certificate(spoilt)


@pytest.mark.parametrize("name", ["table.parquet", "figure.png", "figure.pdf", "a.safetensors"])
def test_what_is_no_text_has_no_habits(results, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(crlf((results / name).read_bytes()))
    assert contents.habits(path) is None


# Settings


def test_settings_keep_the_order_of_their_keys_and_nothing_else_does(tmp_path):
    values = {"attacks": {"pgd": 1, "fgsm": {"z": 1, "a": 2}}}
    given = {"config": ["config.yaml", {"name": "o.yaml", "values": values}], "overrides": values}
    kept = {**PROOF, **given, "params": {"z": 1, "a": 2}}
    store.write(tmp_path / "a.parquet", pa.table({"a": [1]}), kept)
    found = contents.certificate(tmp_path / "a.parquet")
    assert contents.fault(tmp_path / "a.parquet") is None
    for read in (found["config"][1]["values"], found["overrides"]):
        assert json.dumps(read) == json.dumps(values)
    assert list(found["params"]) == ["a", "z"]
    turned = {**kept, "overrides": {"attacks": {"fgsm": {"z": 1, "a": 2}, "pgd": 1}}}
    assert certificates.as_text(turned) != certificates.as_text(kept)
    assert certificates.as_text(dict(reversed(kept.items()))) == certificates.as_text(kept)
