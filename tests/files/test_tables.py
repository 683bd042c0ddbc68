import io
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from bandlimit.files import contents, store, tables
from bandlimit.files.tables import Column, Table
from bandlimit.provenance import job
from bandlimit.provenance.replay import Files
from bandlimit.studies.bandlimiting.rates import ACCURACIES

SCRIPTS = Path(__file__).parents[2] / "scripts" / "bandlimiting"
FORMS = {"parquet": "parquet", "markdown": "md", "html": "html", "latex": "tex", "csv": "csv"}
CERTIFICATE = {
    "format": 1,
    "rule": "table_1",
    "params": {"note": "50% -- größer_als & {x} #1 | y"},
    "inputs": {"results/a.parquet": "0f" * 32},
}
COLUMNS = {
    "attack": Column("Attack"),
    "epsilon": Column("ε · 255", 1, 255),
    "images": Column("N"),
    "rate": Column("Rate & 95%", 4),
    "reported": Column("Reported #Adv {per} $", 0),
}


def frame():
    return pd.DataFrame(
        {
            "attack": ["fgsm_minimal", "pgd"],
            "epsilon": [8 / 255, 1 / 3],
            "images": [100, 20],
            "rate": [0.123456789, math.nan],
            "reported": [7552.0, None],
            "hidden": [1.0, 2.0],
        }
    )


def saved(folder):
    paths = {name: folder / f"table.{suffix}" for name, suffix in FORMS.items()}
    tables.save(
        Table(frame(), COLUMNS, title="Table 1: a title", note="A note below."),
        **paths,
        certificate=CERTIFICATE,
    )
    return paths


def test_show_scales_rounds_and_marks_what_is_missing():
    shown = tables.show(frame(), COLUMNS)
    assert list(shown.columns) == ["Attack", "ε · 255", "N", "Rate & 95%", "Reported #Adv {per} $"]
    assert shown.iloc[0].tolist() == ["fgsm_minimal", "8.0", "100", "0.1235", "7552"]
    assert shown.iloc[1].tolist() == ["pgd", "85.0", "20", "–", "–"]


def test_show_puts_an_interval_in_brackets_behind_its_value():
    frame = pd.DataFrame(
        {"n": [3, 4, 5], "rate": [0.5, 0.25, math.nan], "a": [0.1, None, 0.0], "b": [0.9, None, 1]}
    )
    columns = {"n": Column("N"), "rate": Column("%", 1, 100, interval=("a", "b"))}
    shown = tables.show(frame, columns)
    assert list(shown.columns) == ["N", "%"]
    assert shown["N"].tolist() == ["3", "4", "5"]
    # A value that is missing has no interval, whatever its bounds say.
    assert shown["%"].tolist() == ["50.0 [10.0, 90.0]", "25.0 [–, –]", "–"]


def test_all_forms_carry_the_certificate(tmp_path):
    paths = saved(tmp_path)
    for path in paths.values():
        assert contents.certificate(path).items() >= CERTIFICATE.items()


def test_parquet_and_csv_keep_all_columns_and_digits(tmp_path):
    paths = saved(tmp_path)
    pd.testing.assert_frame_equal(store.read(paths["parquet"]).to_pandas(), frame())
    text = paths["csv"].read_text(encoding="utf-8")
    assert text.startswith("# ")
    found = pd.read_csv(io.StringIO(text), comment="#")
    pd.testing.assert_frame_equal(found, frame(), check_dtype=False)
    assert found["rate"][0] == 0.123456789


def test_markdown_shows_title_rows_and_note(tmp_path):
    text = saved(tmp_path)["markdown"].read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == "# Table 1: a title"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    assert rows[0] == [column.title for column in COLUMNS.values()]
    assert rows[2:] == [
        ["fgsm_minimal", "8.0", "100", "0.1235", "7552"],
        ["pgd", "85.0", "20", "–", "–"],
    ]
    assert "A note below." in lines
    # A comment of HTML ends at the first '-->', and may hold no other '--'.
    comment = text[text.index("<!--") + 4 :]
    assert comment.index("--") == comment.index("-->") == len(comment) - 4


def test_latex_escapes_what_is_special(tmp_path):
    text = saved(tmp_path)["latex"].read_text(encoding="utf-8")
    body = [line for line in text.splitlines() if not line.startswith("%")]
    joined = "\n".join(body)
    assert "fgsm\\_minimal" in joined
    assert "Rate \\& 95\\%" in joined
    assert "Reported \\#Adv" in joined
    assert "$\\epsilon$" in joined
    assert "\\{per\\} \\$" in joined
    assert joined.count("\\toprule") == joined.count("\\bottomrule") == 1
    assert joined.count("&") - joined.count("\\&") == 3 * (len(COLUMNS) - 1)


def test_equal_tables_are_equal_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    for name in one:
        assert one[name].read_bytes() == two[name].read_bytes()


def test_a_table_without_rows_is_a_table(tmp_path):
    tables.save(
        Table(frame().iloc[:0], COLUMNS, title="Empty", note="None."),
        parquet=tmp_path / "a.parquet",
        markdown=tmp_path / "a.md",
        html=tmp_path / "a.html",
        latex=tmp_path / "a.tex",
        csv=tmp_path / "a.csv",
        certificate=CERTIFICATE,
    )
    assert len(store.read(tmp_path / "a.parquet")) == 0
    assert "Attack" in (tmp_path / "a.md").read_text(encoding="utf-8")


def test_read_all_joins_files_without_images_and_names_them(tmp_path):
    for i in range(3):
        images = store.image_column(np.zeros((2, 1, 2, 2), np.float32))
        rows = pa.table({"image_id": [f"{i}/0", f"{i}/1"], "image": images})
        store.write(tmp_path / f"{i}.parquet", rows)
    paths = [str(tmp_path / f"{i}.parquet") for i in range(3)]
    found = tables.read_all(paths, attack=["fgsm", "pgd", "pgd"])
    assert list(found.columns) == ["image_id", "attack"]
    assert found["image_id"].tolist() == ["0/0", "0/1", "1/0", "1/1", "2/0", "2/1"]
    assert found["attack"].tolist() == ["fgsm"] * 2 + ["pgd"] * 4
    assert list(found.index) == list(range(6))


# Tables of the document ---------------------------------------------------------------------------

# Numbers that no document reports, so that one written into a script would show.
REPORTED = {
    "clean_undefended": 0.9101,
    "attacked_undefended": 0.1202,
    "clean_defended": 0.8303,
    "attacked_defended": 0.7404,
    "defense_rate": 0.6505,
    "adversarial": 4321,
}
TITLES = {
    "clean_undefended": ("Clean", "Reported clean"),
    "attacked_undefended": ("Attacked", "Reported attacked"),
    "clean_defended": ("Clean, defended", "Reported clean, defended"),
    "attacked_defended": ("Attacked, defended", "Reported attacked, defended"),
    "defense_rate": ("Defence rate", "Reported rate"),
    "adversarial": ("#Adv", "Reported #Adv"),
    "radius": ("r", "Reported r"),
    "images": ("N", "Reported N"),
}


def shown_as(value):
    return str(value) if isinstance(value, int) else f"{value:.4f}"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return a call that runs the script of a table and returns it in all forms."""
    # Without what is of the process: its logging, threads and memory are those of the tests.
    monkeypatch.setattr(job, "run", lambda main, handed: main(job.Job(handed)))
    outputs = Files({name: str(tmp_path / f"made.{end}") for name, end in FORMS.items()})

    def run(name, inputs, **params):
        handed = SimpleNamespace(
            rule=f"bandlimiting_{name}",
            scriptdir=str(SCRIPTS),
            input=Files(inputs),
            output=outputs,
            params={"identity": params, "script": f"scripts/bandlimiting/{name}.py"},
            wildcards={},
            threads=1,
            log=[str(tmp_path / "made.log")],
            config={},
            certificate=CERTIFICATE,
        )
        runpy.run_path(str(SCRIPTS / f"{name}.py"), init_globals={"snakemake": handed})
        text = Path(outputs["markdown"]).read_text(encoding="utf-8")
        head, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if line.startswith("|")
        ]
        return {
            "head": head,
            "rows": [dict(zip(head, row, strict=True)) for row in rows],
            "frame": store.read(outputs["parquet"]).to_pandas(),
            "csv": pd.read_csv(outputs["csv"], comment="#"),
            "html": Path(outputs["html"]).read_text(encoding="utf-8"),
            "latex": Path(outputs["latex"]).read_text(encoding="utf-8"),
        }

    return run


@pytest.fixture
def study(tmp_path):
    """Return the inputs of Tables 1 and 2: rates of one experiment, and what a document reports."""
    names = {"dataset": "own", "model": "net", "epsilon": 8 / 255, "radius": 2.0}
    rates = pd.DataFrame(
        [
            names
            | {"attack": attack, "directions": k, "images": 60, "adversarial": 50, "draws": 5}
            | {"defense_rate": 0.812, "low": 0.683, "high": 0.8965, "deviation": 0.0179}
            | {"ceiling": 0.98, "ceiling_low": 0.8950, "ceiling_high": 0.9965}
            | {name: 0.5 + i / 100 for i, name in enumerate(ACCURACIES)}
            | {f"{name}_low": 0.3 + i / 100 for i, name in enumerate(ACCURACIES)}
            | {f"{name}_high": 0.7 + i / 100 for i, name in enumerate(ACCURACIES)}
            for attack, k in (("pgd_minimal", 15), ("pgd_minimal", 7), ("pgd", 15))
        ]
    )
    store.write(tmp_path / "rates.parquet", pa.Table.from_pandas(rates, preserve_index=False))
    of_k = {name: value for name, value in REPORTED.items() if name != "clean_undefended"}
    row = {"attack": "pgd_minimal", **REPORTED}
    reported = {
        "table_1": [
            {"dataset": "CIFAR-10", "radius": 5.25, "images": 8765, **row},
            {"dataset": "ImageNet", "radius": 31.5, "images": 4987, **row},
        ],
        "table_2": [{"directions": 15, "time_ratio": 9.5, **of_k}],
    }
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"reported": reported}))
    return {
        "rates": str(tmp_path / "rates.parquet"),
        "claims": str(tmp_path / "claims.yaml"),
    }


def assert_beside(table, names, row, reported):
    """Every number of the document stands behind ours, which has its interval."""
    for name in names:
        own, other = TITLES[name]
        assert table["head"].index(other) == table["head"].index(own) + 1, name
        assert row[other] == reported[name], name
        if name in ACCURACIES:
            i = ACCURACIES.index(name)
            interval = f"{0.5 + i / 100:.4f} [{0.3 + i / 100:.4f}, {0.7 + i / 100:.4f}]"
            assert row[own] == interval
            assert interval in table["html"] and interval in table["latex"]
            for form in ("frame", "csv"):
                assert table[form][f"{name}_low"].tolist() == pytest.approx(
                    [0.3 + i / 100] * len(table["rows"])
                )
                assert {f"{name}_high", f"reported_{name}"} <= set(table[form].columns)
        assert reported[name] in table["html"] and reported[name] in table["latex"]
    assert row["Defence rate"] == "0.8120 [0.6830, 0.8965]"


def test_table_1_has_all_of_the_document_beside_ours(script, study):
    experiment = {"dataset": "own", "model": "net", "radius": 2.0, "directions": 15}
    experiments = [{**experiment, "document": "CIFAR-10", "epsilon": 8 / 255}]
    table = script("table_1", study, experiments=experiments)
    (minimal,) = (row for row in table["rows"] if row["Attack"] == "pgd_minimal")
    reported = {name: shown_as(value) for name, value in REPORTED.items()}
    reported |= {"radius": "5.25", "images": "8765"}
    assert minimal["Reported for"] == "CIFAR-10"
    assert_beside(table, reported, minimal, reported)
    assert minimal["Ceiling"] == "0.9800 [0.8950, 0.9965]"
    # Of this attack the document reports nothing.
    (fixed,) = (row for row in table["rows"] if row["Attack"] == "pgd")
    titles = [title for title in table["head"] if title.startswith("Reported")]
    assert len(titles) == len(reported) + 1
    assert {fixed[title] for title in titles} == {"–"}


def test_table_2_has_all_of_the_document_beside_ours(script, study):
    experiments = [{"dataset": "own", "model": "net", "radius": 2.0, "epsilon": 8 / 255}]
    table = script("table_2", study, experiments=experiments)
    rows = {row["K"]: row for row in table["rows"]}
    assert set(rows) == {"7", "15"}
    reported = {
        name: shown_as(value) for name, value in REPORTED.items() if name != "clean_undefended"
    }
    # Of its Table 1, for the same data set and attack.
    reported |= {"radius": "31.50", "images": "4987"}
    assert rows["15"]["Reported for"] == "ImageNet"
    assert_beside(table, reported, rows["15"], reported)
    assert {rows["7"][TITLES[name][1]] for name in reported} == {"–"}
    titles = [title for title in table["head"] if title.startswith("Reported")]
    assert len(titles) == len(reported) + 1


def test_the_table_of_samplers_counts_all_images_and_the_adversarial_ones(script, tmp_path):
    ids = list("abcde")
    for shard, names in {"1": ids[:3], "2": ids[3:]}.items():
        # The first of each shard is found beyond epsilon, and counts as kept.
        records = {
            "image_id": names,
            "epsilon": pa.nulls(len(names), pa.float64()),
            "success": [True] * len(names),
            "linf": [0.5] + [0.01] * (len(names) - 1),
        }
        store.write(tmp_path / f"adversarial_{shard}.parquet", pa.table(records))
        answers = pd.DataFrame(
            [
                {"image_id": i, "sampler": sampler, "directions": 4, "correct": sampler == "random"}
                for i in names
                for sampler in ("random", "approximate")
            ]
        )
        path = tmp_path / f"evaluation_{shard}.parquet"
        store.write(path, pa.Table.from_pandas(answers, preserve_index=False))
    inputs = {
        name: [str(tmp_path / f"{stem}_{shard}.parquet") for shard in "12"]
        for name, stem in (("adversarial", "adversarial"), ("evaluations", "evaluation"))
    }
    name = {"dataset": "own", "model": "net", "attack": "pgd_minimal", "epsilon": 8 / 255}
    name |= {"samplers": ["random", "approximate"], "directions": 4}
    table = script("table_samplers", inputs, names=[name] * 2)
    assert table["head"].index("#Adv") == table["head"].index("N") + 1
    assert [(row["Sampler"], row["N"], row["#Adv"]) for row in table["rows"]] == [
        ("random", "5", "3"),
        ("approximate", "5", "3"),
    ]
    assert table["frame"]["images"].tolist() == [5, 5]
