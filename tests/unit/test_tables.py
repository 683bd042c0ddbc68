import io
import math

import numpy as np
import pandas as pd
import pyarrow as pa

from bandlimit import contents, store, tables
from bandlimit.tables import Column

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
    paths = {
        name: folder / f"table.{suffix}"
        for name, suffix in {
            "parquet": "parquet",
            "markdown": "md",
            "html": "html",
            "latex": "tex",
            "csv": "csv",
        }.items()
    }
    tables.save(
        frame(),
        COLUMNS,
        **paths,
        title="Table 1: a title",
        note="A note below.",
        certificate=CERTIFICATE,
    )
    return paths


def test_show_scales_rounds_and_marks_what_is_missing():
    shown = tables.show(frame(), COLUMNS)
    assert list(shown.columns) == ["Attack", "ε · 255", "N", "Rate & 95%", "Reported #Adv {per} $"]
    assert shown.iloc[0].tolist() == ["fgsm_minimal", "8.0", "100", "0.1235", "7552"]
    assert shown.iloc[1].tolist() == ["pgd", "85.0", "20", "–", "–"]


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
        frame().iloc[:0],
        COLUMNS,
        parquet=tmp_path / "a.parquet",
        markdown=tmp_path / "a.md",
        html=tmp_path / "a.html",
        latex=tmp_path / "a.tex",
        csv=tmp_path / "a.csv",
        title="Empty",
        note="None.",
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
