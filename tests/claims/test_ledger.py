import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bandlimit.claims import ledger, verdicts
from bandlimit.files import contents, store

CERTIFICATE = {"rule": "ledger", "inputs": {"a--b": "0" * 64}}
PNG = b"\x89PNG\r\n\x1a\n not really"


def claim(claim_id, verdict, **changes):
    row = {
        "id": claim_id,
        "study": claim_id.split(".")[0],
        "document": "A document",
        "where": "Table 1",
        "statement": "The rate is high.",
        "scale": "paper",
        "reported": 0.93,
        "measured": 0.5,
        "low": 0.4,
        "high": 0.6,
        "images": 77.0,
        "measured_on": "cifar10/resnet56",
        "stand_in": False,
        "verdict": verdict,
        "records": "results/tables/one.parquet",
        "rows": "attack == 'pgd'",
        "decided_by": "tables/one: 3",
        "checks_failed": "",
        "reading": "Rate: 0.5 [0.4, 0.6], outside 0.9 to 1 (N = 77).",
    }
    return row | changes


def framed(*rows):
    return pd.DataFrame(list(rows), columns=list(verdicts.COLUMNS)).astype(verdicts.COLUMNS)


SUMMARY = [
    {"when": {"C01": "reproduced"}, "say": "It holds."},
    {"when": {"C01": "contradicted"}, "say": "It is {C01.measured:.0%}, not {C01.reported:.0%}."},
    {"say": "Look below."},
]


@pytest.fixture
def page(tmp_path):
    """Return a folder with claims files of two studies and pictures, and how to write a page."""
    for study in ("first", "second"):
        document = {
            "document": f"The {study} <document>",
            "summary": SUMMARY,
            "claims": [{"id": f"{study}.C01"}, {"id": f"{study}.C02"}],
        }
        (tmp_path / f"{study}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "figures").mkdir()
    for name in ("study picture", "claim_picture"):
        (tmp_path / f"figures/{name}.png").write_bytes(PNG)
    return Page(tmp_path)


class Page:
    rows = (
        claim("first.C01", "contradicted"),
        claim("first.C02", "not reproduced", statement="a < b | c & d"),
        claim("second.C01", "reproduced"),
        claim(
            "second.C02",
            "not run at this scale",
            **dict.fromkeys(("reported", "measured", "low", "high", "images")),
            measured_on="",
            stand_in=None,
            decided_by="",
        ),
    )

    def __init__(self, folder):
        self.folder = folder
        self.figures = {
            "first": [folder / "figures/study picture.png"],
            "second.C01": [folder / "figures/claim_picture.png"],
        }

    def write(self, rows=None):
        files = [self.folder / f"{study}.yaml" for study in ("first", "second")]
        paths = {
            kind: self.folder / f"claims/ledger.{suffix}"
            for kind, suffix in (("markdown", "md"), ("html", "html"), ("parquet", "parquet"))
        }
        frame = framed(*(self.rows if rows is None else rows))
        ledger.write(frame, files, self.figures, **paths, certificate=CERTIFICATE)
        return Written(**paths)


class Written:
    def __init__(self, markdown, html, parquet):
        self.markdown = Path(markdown).read_text(encoding="utf-8")
        self.html = Path(html).read_text(encoding="utf-8")
        self.paths = {"markdown": markdown, "html": html, "parquet": parquet}


class Reader(HTMLParser):
    """Collects the text, the tags and their attributes; refuses tags that are not closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def rows(markdown, heading):
    """Return the cells of the first table whose head begins with a word."""
    table = next(part for part in markdown.split("\n\n") if part.startswith(f"| {heading} |"))
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def test_the_first_table_has_a_sentence_for_each_document(page):
    written = page.write()
    first = re.search(r"^\| .*?\n\n", written.markdown, re.MULTILINE | re.DOTALL)[0]
    assert first.startswith("| Document | In a sentence |")
    assert rows(written.markdown, "Document") == [
        ["The first <document>", "It is 50%, not 93%."],
        ["The second <document>", "It holds."],
    ]
    text = Reader(written.html).text
    assert text.index("It is 50%, not 93%.") < text.index("It holds.") < text.index("C01")


def test_verdicts_are_counted(page):
    written = page.write()
    assert rows(written.markdown, "Study") == [
        ["first", "0", "1", "1", "0", "2"],
        ["second", "1", "0", "0", "1", "2"],
        ["all", "1", "1", "1", "1", "4"],
    ]


def test_every_claim_stands_with_its_numbers(page):
    written = page.write()
    claims = [line for line in written.markdown.splitlines() if line.startswith("| first.C0")]
    assert claims[0] == (
        "| first.C01 | Table 1 | The rate is high. | **contradicted** | 0.93 | 0.5 [0.4, 0.6] "
        "| 77 | Rate: 0.5 [0.4, 0.6], outside 0.9 to 1 (N = 77). |"
    )
    # A line in the table must not end at the first bar of a sentence.
    assert r"a < b \| c & d" in claims[1]
    missing = next(line for line in written.markdown.splitlines() if "second.C02" in line)
    assert "| **not run at this scale** | – | – | – |" in missing
    assert "| first.C01 | cifar10/resnet56 | results/tables/one.parquet |" in written.markdown


def test_the_html_page_stands_alone(page):
    written = page.write()
    read = Reader(written.html)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe"}
    addresses = [a.get("src") or a.get("href") for _, a in read.tags if "src" in a or "href" in a]
    assert addresses and all(x.startswith(("data:image/png;base64,", "#")) for x in addresses)
    pictures = [attributes for tag, attributes in read.tags if tag == "img"]
    assert len(pictures) == 2 and all(picture["alt"] for picture in pictures)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        read.tags
    )
    assert "a < b | c & d" in read.text and "a < b" not in written.html
    # Links lead to places that are there.
    ids = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {address[1:] for address in addresses if address.startswith("#")} <= ids


def test_verdicts_are_told_by_word_as_well_as_by_colour(page):
    read = Reader(page.write().html)
    badges = [a["class"] for tag, a in read.tags if a.get("class", "").startswith("verdict ")]
    assert set(badges) == {"verdict yes", "verdict open", "verdict no", "verdict none"}
    for verdict in verdicts.VERDICTS:
        assert read.text.count(verdict) >= 2


def test_markdown_links_to_the_pictures(page):
    markdown = page.write().markdown
    assert "![study picture](../figures/study%20picture.png)" in markdown
    assert "![claim_picture](../figures/claim_picture.png)" in markdown


def test_each_file_carries_the_certificate(page):
    written = page.write()
    for path in written.paths.values():
        assert contents.certificate(path).items() >= CERTIFICATE.items()


def test_parquet_keeps_all_columns_and_types_even_of_nothing_measured(page):
    table = store.read(page.write().paths["parquet"])
    assert table.schema.remove_metadata() == ledger.SCHEMA
    assert table["measured"].to_pylist() == [0.5, 0.5, 0.5, None]
    assert table["stand_in"].to_pylist() == [False, False, False, None]
    nothing = [row | dict.fromkeys(("measured", "stand_in")) for row in page.rows]
    table = store.read(page.write(nothing).paths["parquet"])
    assert table.schema.remove_metadata() == ledger.SCHEMA


def test_failed_checks_and_stand_ins_are_seen(page):
    marked = [page.rows[0] | {"checks_failed": "noise", "stand_in": True}, *page.rows[1:]]
    written = page.write(marked)
    assert "Failed checks" in Reader(written.html).text
    assert "cifar10/resnet56, a stand-in" in written.markdown
    assert "Failed checks" not in Reader(page.write().html).text


def test_equal_ledgers_are_equal_bytes(page):
    first = {kind: Path(path).read_bytes() for kind, path in page.write().paths.items()}
    assert first == {kind: Path(path).read_bytes() for kind, path in page.write().paths.items()}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"verdict": "reproduced"}, "It holds."),
        ({"verdict": "contradicted"}, "It is 50%, not 93%."),
        ({"verdict": "contradicted", "measured": None}, "Look below."),
        ({"verdict": "not reproduced"}, "Look below."),
    ],
)
def test_the_sentence_is_the_first_that_applies(changes, sentence):
    frame = framed(claim("first.C01", "reproduced") | changes)
    assert ledger.summary({"document": "A", "summary": SUMMARY}, frame) == sentence


def test_a_picture_of_nothing_and_a_row_of_no_file_are_refused(page):
    page.figures["third"] = []
    with pytest.raises(ValueError, match="'third' is no claim and no study"):
        page.write()
    del page.figures["third"]
    with pytest.raises(ValueError, match="'third.C01' is no claim"):
        page.write([*page.rows, claim("third.C01", "reproduced")])
