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


def claim(claim_id, substance, reported, /, **changes):
    """Return a row of the ledger; changes of a part are named as its columns are."""
    row = {
        "id": claim_id,
        "study": claim_id.split(".")[0],
        "document": "A document",
        "where": "Table 1",
        "statement": "The rate is 93%.",
        "substance": "The rate is high.",
        "reported": 0.93,
        **told("in_substance", substance, 0.5, "own/net"),
        **told("as_reported", reported, 0.7, "cifar10/resnet56"),
    }
    return row | changes


def told(part, verdict, measured, place):
    """Return the columns of a part of a claim: each part has numbers of its own."""
    facts = {
        "measured": measured,
        "low": measured - 0.1,
        "high": measured + 0.1,
        "cases": measured * 1000,
        "needed": None,
        "measured_on": place,
        "stand_in": False,
        "networks": f"{place}: {verdict}",
        "records": f"results/tables/{part}.parquet",
        "rows": f"attack == '{part}'",
        "decided_by": f"tables/{part}: 3",
        "checks_failed": "",
        "reading": f"Rate {part}: {measured}.",
    }
    return {part: verdict, **{f"{part}_{fact}": value for fact, value in facts.items()}}


def nothing(part, verdict):
    """Return the columns of a part that was not asked."""
    empty = {fact: "" if kind == "str" else None for fact, kind in verdicts.FACTS.items()}
    empty |= {"records": "tables/none", "rows": "all rows", "reading": "Not made."}
    return {part: verdict, **{f"{part}_{fact}": value for fact, value in empty.items()}}


def framed(*rows):
    return pd.DataFrame(list(rows), columns=list(verdicts.COLUMNS)).astype(verdicts.COLUMNS)


SUMMARY = [
    {"when": {"C01": "holds"}, "say": "It holds."},
    {
        "when": {"C01": "does not hold"},
        "say": "It is {C01.measured:.0%} of {C01.cases:.0f}, {C01.low:.1f} to {C01.high:.1f}.",
    },
    {"say": "Look below."},
]


@pytest.fixture
def page(tmp_path):
    """Return a folder with claims files of two studies and pictures, and how to write a page."""
    for study in ("first", "second"):
        document = {
            "document": f"The {study} <document>",
            "summary": SUMMARY,
            "claims": [{"id": f"{study}.C0{number}"} for number in (1, 2, 3)],
        }
        (tmp_path / f"{study}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "figures").mkdir()
    for name in ("face picture", "study picture", "claim_picture"):
        (tmp_path / f"figures/{name}.png").write_bytes(PNG)
    return Page(tmp_path)


class Page:
    rows = (
        claim("first.C01", "does not hold", "contradicted"),
        claim("first.C02", "undecided", "not reproduced", substance="a < b | c & d"),
        claim("second.C01", "holds", "reproduced"),
        claim("second.C02", "mixed", "reproduced"),
        claim(
            "second.C03",
            "not asked",
            "not run at this scale",
            reported=None,
            **nothing("in_substance", "not asked"),
            **nothing("as_reported", "not run at this scale"),
        ),
    )

    def __init__(self, folder):
        self.folder = folder
        self.figures = {
            "first": [folder / f"figures/{name} picture.png" for name in ("face", "study")],
            "second.C01": [folder / "figures/claim_picture.png"],
        }

    def write(self, rows=None, **more):
        files = [self.folder / f"{study}.yaml" for study in ("first", "second")]
        paths = {
            kind: self.folder / f"claims/ledger.{suffix}"
            for kind, suffix in (("markdown", "md"), ("html", "html"), ("parquet", "parquet"))
        }
        frame = framed(*(self.rows if rows is None else rows))
        ledger.write(frame, files, self.figures, **paths, **more, certificate=CERTIFICATE)
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


def words(html):
    """Return the text as a reader sees it: a space where a line ends."""
    return " ".join(Reader(re.sub("<br>|</dt>", r"\g<0> ", html)).text.split())


def rows(markdown, heading):
    """Return the cells of the first table whose head begins with a word."""
    return cells(next(part for part in markdown.split("\n\n") if part.startswith(f"| {heading} |")))


def cells(table):
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def claims_table(markdown, part):
    """Return the rows of all tables of a part of the claims, by id."""
    tables = [text for text in markdown.split("\n\n") if f"| Statement | {part} |" in text]
    return {row[0]: row[1:] for table in tables for row in cells(table)}


def test_the_first_table_has_a_sentence_for_each_document(page):
    written = page.write()
    first = re.search(r"^\| .*?\n\n", written.markdown, re.MULTILINE | re.DOTALL)[0]
    assert first.startswith("| Document | In a sentence |")
    # The numbers are those in substance.
    assert rows(written.markdown, "Document") == [
        ["The first <document>", "It is 50% of 500, 0.4 to 0.6."],
        ["The second <document>", "It holds."],
    ]
    text = Reader(written.html).text
    assert text.index("It is 50% of 500") < text.index("It holds.") < text.index("C01")


def test_verdicts_on_each_part_are_counted(page):
    written = page.write()
    assert rows(written.markdown, "In substance") == [
        ["first", "0", "1", "0", "1", "0", "2"],
        ["second", "1", "0", "1", "0", "1", "3"],
        ["all", "1", "1", "1", "1", "1", "5"],
    ]
    assert rows(written.markdown, "As reported") == [
        ["first", "0", "1", "1", "0", "2"],
        ["second", "2", "0", "0", "1", "3"],
        ["all", "2", "1", "1", "1", "5"],
    ]


def test_the_html_page_counts_each_verdict_that_there_is(page):
    lists = re.findall(r'<ul class="counts">(.*?)</ul>', page.write().html, re.DOTALL)
    items = [re.findall(r"<li>(.*?)</li>", text, re.DOTALL) for text in lists]
    assert [[Reader(item).text for item in of_list] for of_list in items] == [
        ["In substance", "1 does not hold", "1 undecided"],
        ["As reported", "1 not reproduced", "1 contradicted"],
        ["In substance", "1 holds", "1 mixed", "1 not asked"],
        ["As reported", "2 reproduced", "1 not run at this scale"],
    ]


def test_every_claim_stands_with_both_parts_and_their_numbers(page):
    written = page.write()
    substance = claims_table(written.markdown, "In substance")
    reported = claims_table(written.markdown, "As reported")
    assert [*substance] == [*reported] == [row["id"] for row in page.rows]
    assert substance["first.C01"] == [
        *("Table 1", "The rate is high.", "**does not hold**"),
        *("0.5 [0.4, 0.6]", "500", "Rate in_substance: 0.5."),
    ]
    assert reported["first.C01"] == [
        *("Table 1", "The rate is 93%.", "**contradicted**", "0.93"),
        *("0.7 [0.6, 0.8]", "700", "Rate as_reported: 0.7."),
    ]
    # A line in the table must not end at the first bar of a sentence.
    assert r"a < b \| c & d" in written.markdown
    assert substance["second.C03"][2:5] == ["**not asked**", "–", "–"]
    assert reported["second.C03"][2:6] == ["**not run at this scale**", "–", "–", "–"]


def test_what_decides_each_part_stands_in_markdown(page):
    tables = [
        text for text in page.write().markdown.split("\n\n") if text.startswith("| Claim | Part |")
    ]
    found = [row for table in tables for row in cells(table)]
    assert found[:2] == [
        [
            *("first.C01", "In substance", "own/net: does not hold"),
            *("results/tables/in_substance.parquet", "`attack == 'in_substance'`"),
            "tables/in_substance: 3",
        ],
        [
            *("first.C01", "As reported", "cifar10/resnet56: contradicted"),
            *("results/tables/as_reported.parquet", "`attack == 'as_reported'`"),
            "tables/as_reported: 3",
        ],
    ]
    assert found[-1] == ["second.C03", "As reported", "–", "tables/none", "`all rows`", "–"]
    assert len(found) == 2 * len(page.rows)


def test_both_parts_of_a_claim_stand_beside_each_other_in_html(page):
    html = page.write().html
    row = re.search(r'<tr id="first.C01">(.*?)</tr>', html, re.DOTALL)[1]
    claim_cell, *parts = (
        words(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
    )
    assert claim_cell == "C01 Table 1 The rate is high. As reported: The rate is 93%."
    assert parts == [
        "does not hold 0.5 [0.4, 0.6], N = 500 Rate in_substance: 0.5. What decides "
        "Asked of own/net: does not hold Records results/tables/in_substance.parquet "
        "Rows attack == 'in_substance' Row numbers, from 0 tables/in_substance: 3",
        "contradicted 0.7 [0.6, 0.8], N = 700 reported 0.93 Rate as_reported: 0.7. What decides "
        "Asked of cifar10/resnet56: contradicted Records results/tables/as_reported.parquet "
        "Rows attack == 'as_reported' Row numbers, from 0 tables/as_reported: 3",
    ]
    empty = re.search(r'<tr id="second.C03">(.*?)</tr>', html, re.DOTALL)[1]
    text = words(empty)
    assert "not asked Not made. What decides Records" in text
    assert "–" not in text and "reported –" not in text and "Asked of" not in text


def test_equal_statements_stand_once_in_html(page):
    alike = [row | {"substance": row["statement"]} for row in page.rows]
    assert "As reported: The rate" in Reader(page.write().html).text
    assert "As reported: The rate" not in Reader(page.write(alike).html).text


def test_a_value_without_an_interval_has_none_on_the_page(page):
    exact = {f"in_substance_{fact}": 0.5 for fact in ("measured", "low", "high")}
    written = page.write([page.rows[0] | exact, *page.rows[1:]])
    assert claims_table(written.markdown, "In substance")["first.C01"][3] == "0.5"


def test_the_html_page_stands_alone(page):
    written = page.write()
    read = Reader(written.html)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe"}
    addresses = [a.get("src") or a.get("href") for _, a in read.tags if "src" in a or "href" in a]
    assert addresses and all(x.startswith(("data:image/png;base64,", "#")) for x in addresses)
    pictures = [attributes for tag, attributes in read.tags if tag == "img"]
    assert len(pictures) == 3 and all(picture["alt"] for picture in pictures)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        read.tags
    )
    assert "a < b | c & d" in read.text and "a < b" not in written.html
    # Links lead to places that are there.
    ids = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {address[1:] for address in addresses if address.startswith("#")} <= ids


def test_the_face_of_a_study_stands_before_all_claims(page):
    """The first picture of a study is beside its sentence, the others follow its claims."""
    written = page.write()
    html, markdown = written.html, written.markdown
    places = ['alt="face picture"', '<tr id="first.C01">', 'alt="study picture"']
    assert [html.count(place) for place in places] == [1, 1, 1]
    assert sorted(places, key=html.index) == places
    assert html.index("It is 50%") < html.index(places[0])
    places = ["In a sentence", "![face picture]", "## The first", "![study picture]"]
    assert [markdown.count(place) for place in places] == [1, 1, 1, 1]
    assert sorted(places, key=markdown.index) == places


def test_verdicts_are_told_by_word_as_well_as_by_colour(page):
    read = Reader(page.write().html)
    badges = [a["class"] for tag, a in read.tags if a.get("class", "").startswith("verdict ")]
    assert set(badges) == {"verdict yes", "verdict open", "verdict no", "verdict none"}
    for verdict in {verdict for part in verdicts.VERDICTS.values() for verdict in part}:
        assert read.text.count(verdict) >= 2
        assert verdict in ledger.MARKS


def test_markdown_links_to_the_pictures(page):
    markdown = page.write().markdown
    for name in ("face", "study"):
        assert f"![{name} picture](../figures/{name}%20picture.png)" in markdown
    assert "![claim_picture](../figures/claim_picture.png)" in markdown


def test_each_file_carries_the_certificate(page):
    written = page.write()
    for path in written.paths.values():
        assert contents.certificate(path).items() >= CERTIFICATE.items()


def test_parquet_keeps_all_columns_and_types_even_of_nothing_measured(page):
    table = store.read(page.write().paths["parquet"])
    assert table.schema.remove_metadata() == ledger.SCHEMA
    assert table["in_substance_measured"].to_pylist() == [0.5, 0.5, 0.5, 0.5, None]
    assert table["as_reported_measured"].to_pylist() == [0.7, 0.7, 0.7, 0.7, None]
    assert table["in_substance_stand_in"].to_pylist() == [False, False, False, False, None]
    empty = nothing("in_substance", "not asked") | nothing("as_reported", "not run at this scale")
    table = store.read(page.write([row | empty for row in page.rows]).paths["parquet"])
    assert table.schema.remove_metadata() == ledger.SCHEMA


def test_failed_checks_are_seen(page):
    marked = [page.rows[0] | {"in_substance_checks_failed": "noise"}, *page.rows[1:]]
    assert "Failed checks noise" in words(page.write(marked).html)
    assert "Failed checks" not in Reader(page.write().html).text


def test_equal_ledgers_are_equal_bytes(page):
    first = {kind: Path(path).read_bytes() for kind, path in page.write().paths.items()}
    assert first == {kind: Path(path).read_bytes() for kind, path in page.write().paths.items()}


@pytest.mark.parametrize(
    ("substance", "changes", "sentence"),
    [
        ("holds", {}, "It holds."),
        ("does not hold", {}, "It is 50% of 500, 0.4 to 0.6."),
        # A number that is missing would leave a hole in the sentence.
        ("does not hold", {"in_substance_measured": None}, "Look below."),
        ("does not hold", {"in_substance_cases": None}, "Look below."),
        ("does not hold", {"as_reported_measured": None}, "It is 50% of 500, 0.4 to 0.6."),
        ("undecided", {}, "Look below."),
        # What is reproduced as reported, or not, changes nothing.
        ("undecided", {"as_reported": "reproduced"}, "Look below."),
    ],
)
def test_the_sentence_is_the_first_that_applies_in_substance(substance, changes, sentence):
    frame = framed(claim("first.C01", substance, "contradicted") | changes)
    assert ledger.summary({"document": "A", "summary": SUMMARY}, frame) == sentence


def test_a_summary_without_a_last_sentence_is_refused():
    frame = framed(claim("first.C01", "undecided", "contradicted"))
    with pytest.raises(ValueError, match="the last must always hold"):
        ledger.summary({"document": "A", "summary": SUMMARY[:2]}, frame)


def test_a_picture_of_nothing_and_a_row_of_no_file_are_refused(page):
    page.figures["third"] = []
    with pytest.raises(ValueError, match="'third' is no claim and no study"):
        page.write()
    del page.figures["third"]
    with pytest.raises(ValueError, match="'third.C01' is no claim"):
        page.write([*page.rows, claim("third.C01", "holds", "reproduced")])


def test_an_alarm_stands_before_what_was_found(page):
    alarm = "No number of net on own says anything."
    written = page.write(alarms=[alarm])
    assert written.markdown.index(f"**{alarm}**") < written.markdown.index("In a sentence")
    assert Reader(written.html).text.index(alarm) < Reader(written.html).text.index("In substance")
    assert alarm not in page.write().markdown + page.write().html
