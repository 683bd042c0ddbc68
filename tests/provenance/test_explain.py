import shutil
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest

from bandlimit.errors import UserError
from bandlimit.files import contents, store
from bandlimit.plan import code
from bandlimit.provenance import explain, origin

REGISTRY = """name,loader,urls,sha256,licence,reference
digits,idx,https://example.org/one https://example.org/two,aa11,CC BY,"Ada and Bob (1999), Digits"
"""
MODELS = "name,source,urls,sha256,licence,reference\nnet,url,https://example.org/net,bb22,MIT,Cy\n"
CLAIMS = """document: A document
claims:
  - id: study.C01
    where: Table 1
    statement: It is.
    records: tables/study/table_1
    in_substance: {tests: [{}]}
    as_reported: {tests: [{}]}
  - id: study.C02
    where: Figure 9
    statement: So.
    in_substance: {tests: [{records: tables/study/other}]}
    as_reported: {records: tables/study/other, tests: [{}]}
"""


@pytest.fixture
def home(tmp_path):
    """A project with a finished run: images and weights, two attacks, a table, a figure, claims."""
    home = tmp_path / "project"
    for name, text in {
        "data/images.bin": "pixels",
        "requirements.lock": "torch==2",
        "scripts/attack.py": '"""Attack one shard.\n\nMore of it."""\n',
        "workflow/registry/datasets.csv": REGISTRY,
        "workflow/registry/models.csv": MODELS,
        "workflow/claims/study.yaml": CLAIMS,
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")
    images, weights = "results/datasets/d.parquet", "results/models/net.parquet"
    attacks = [f"results/adversarial/d/net/{name}/1of1.parquet" for name in ("pgd", "fgsm")]
    table = "results/tables/study/table_1"
    make(home, images, "make_dataset", ["data/images.bin"], source="digits")
    make(home, weights, "convert_model", [], wildcards={"model": "net"})
    for name in attacks:
        make(
            home, name, "attack", [images, weights], epsilons=[8 / 255], wildcards={"model": "net"}
        )
    for form in ("parquet", "md"):
        make(home, f"{table}.{form}", "table_1", attacks, epsilon=8 / 255)
    make(home, "results/figures/study/figure_1.md", "figure_1", [f"{table}.parquet"])
    ledger = pd.DataFrame(
        {"id": ["study.C01"], "in_substance": ["holds"], "as_reported": ["not run at this scale"]}
    )
    store.write(home / "results/claims/claims.parquet", pa.Table.from_pandas(ledger))
    return home


def proof(home, rule, inputs, **params):
    return origin.certificate(
        rule=rule,
        params={"wildcards": {}, **params},
        inputs={name: str(home / name) for name in inputs},
        script="scripts/attack.py",
        code={"scripts/attack.py": code.tree_digest(home / "scripts/attack.py")},
        lock="requirements.lock",
        home=home,
        device="cpu",
    )


def make(home, name, rule, inputs, **params):
    certificate = proof(home, rule, inputs, **params)
    path = home / name
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        if path.suffix == ".parquet":
            store.write(path, pa.table({"value": [rule]}), certificate)
        else:
            contents.write_text(path, f"{rule}\n{{proof}}\n", certificate, "<!-- {} -->")


TABLE = "results/tables/study/table_1.md"


def test_the_way_back_is_told_origins_first(home):
    found = explain.lineage(home / TABLE)
    rules = [step["rule"] for step in found["steps"]]
    assert sorted(rules[:2]) == ["convert_model", "make_dataset"]
    assert rules[2:] == ["attack", "attack"]
    assert [entry["name"] for entry in found["origins"]] == ["data/images.bin"]
    assert found["origins"][0]["sha256"] == store.sha256(home / "data/images.bin")
    assert (found["rule"], found["file"]) == ("table_1", TABLE)
    assert found["lost"] == [] and found["fault"] is None


def test_inputs_bear_the_rule_that_made_them(home):
    attack = explain.lineage(home / "results/adversarial/d/net/pgd/1of1.parquet")
    assert {entry["name"]: entry["rule"] for entry in attack["inputs"]} == {
        "results/datasets/d.parquet": "make_dataset",
        "results/models/net.parquet": "convert_model",
    }
    dataset = explain.lineage(home / "results/datasets/d.parquet")
    assert [entry["rule"] for entry in dataset["inputs"]] == [None]


def test_registered_images_and_weights_have_authors_licence_and_source(home):
    page = explain.text(explain.lineage(home / TABLE))
    for words in ("Ada and Bob (1999), Digits", "CC BY", "<https://example.org/two>", "MIT"):
        assert words in page


def test_each_form_of_a_table_has_its_claims_with_their_verdict(home):
    for form in ("md", "parquet"):
        found = explain.lineage(home / f"results/tables/study/table_1.{form}")
        assert found["claims"] == ["study.C01"]
    line = "It is. In substance: **holds**. As reported: **not run at this scale**.\n"
    assert f"- study.C01 (Table 1): {line}" in explain.text(found)


def test_without_a_ledger_there_is_no_verdict(home):
    (home / "results/claims/claims.parquet").unlink()
    page = explain.text(explain.lineage(home / TABLE))
    assert "In substance: **no verdict here**. As reported: **no verdict here**." in page


def test_each_part_of_a_claim_may_have_a_table_of_its_own(home):
    own = "{records: tables/study/table_1, tests: [{}]}"
    text = CLAIMS.replace("{tests: [{records: tables/study/other}]}", own)
    (home / "workflow/claims/study.yaml").write_text(text, encoding="utf-8")
    assert explain.lineage(home / TABLE)["claims"] == ["study.C01", "study.C02"]


def test_claims_rest_on_what_their_table_was_made_from(home):
    assert explain.lineage(home / "results/datasets/d.parquet")["claims"] == ["study.C01"]


def test_claims_whose_tables_are_not_here_are_named(home):
    found = explain.lineage(home / TABLE)
    assert found["unasked"] == ["study.C02"]
    assert "their tables are not here: study.C02." in explain.text(found)


def test_a_figure_shows_a_table_that_claims_rest_on(home):
    found = explain.lineage(home / "results/figures/study/figure_1.md")
    assert (found["claims"], found["shown"]) == ([], ["study.C01"])


def test_the_page_says_bounds_in_steps_of_a_pixel_and_counts_files(home):
    page = explain.text(explain.lineage(home / TABLE))
    assert page.startswith(f"# {TABLE}\n\nA table, made by the rule `table_1`.")
    assert "- epsilon: 8/255\n" in page
    assert "2 files by `attack`: Attack one shard.\n" in page


def test_long_lists_are_cut_and_counted(home):
    make(home, "results/theory/a.md", "theory", [], seeds=list(range(30)))
    page = explain.text(explain.lineage(home / "results/theory/a.md"))
    assert "- seeds: 0, 1, 2, 3, 4, 5, 6, 7, … (30 in all)\n" in page


def test_the_command_names_the_configuration_that_was_used(home):
    certificate = {"file": TABLE, "config": ["config.yaml", "config/my own.yaml"]}
    start = f"snakemake --cores all --force {TABLE}"
    assert explain.command({"file": TABLE}) == start
    assert explain.command(certificate) == f"{start} --configfile 'config/my own.yaml'"
    overridden = {"file": TABLE, "overrides": {"seed": 7}}
    assert explain.command(overridden) == f"{start} --config seed=7"


def test_a_renamed_copy_is_explained_by_the_tree_that_is_named(home, tmp_path):
    mailed = tmp_path / "mailed.txt"
    shutil.copy(home / TABLE, mailed)
    found = explain.lineage(mailed, home / "results")
    assert found == explain.lineage(home / TABLE)


def test_a_lone_file_is_explained_by_its_certificate(home, tmp_path, monkeypatch):
    mailed = tmp_path / "mailed.txt"
    shutil.copy(home / TABLE, mailed)
    shutil.rmtree(home)
    monkeypatch.chdir(tmp_path)
    found = explain.lineage(mailed)
    assert found["steps"] == [] and len(found["lost"]) == 2
    assert all(entry["missing"] for entry in found["inputs"])
    assert "Steps that can't be followed" in explain.text(found)


def test_a_step_that_was_made_anew_is_not_followed(home):
    changed = "results/adversarial/d/net/pgd/1of1.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        store.write(home / changed, pa.table({"value": [1]}), proof(home, "attack", []))
    found = explain.lineage(home / TABLE)
    assert found["lost"] == [changed]
    assert [entry["changed"] for entry in found["inputs"]] == [False, True]
    assert "**another file lies there now**" in explain.text(found)


def test_a_damaged_step_is_lost_and_no_error(home):
    (home / "results/models/net.parquet").write_bytes(b"PAR1 and nothing more")
    found = explain.lineage(home / TABLE)
    assert found["lost"] == ["results/models/net.parquet"]


def test_a_file_that_was_changed_is_said_not_to_be_trusted(home):
    path = home / TABLE
    path.write_text(path.read_text(encoding="utf-8").replace("table_1\n", "table_2\n", 1))
    assert "**Not to be trusted:**" in explain.text(explain.lineage(path))


def test_a_file_without_a_certificate_is_one_sentence(home):
    with pytest.raises(UserError, match="carries no certificate"):
        explain.lineage(home / "data/images.bin")


def test_a_folder_of_results_that_is_not_there_is_named(home, tmp_path):
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        explain.lineage(home / TABLE, "nowhere")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (REGISTRY + REGISTRY.splitlines()[1] + "\n", "two rows named 'digits'"),
        (REGISTRY + "letters,idx\n", "Row 2 .* got 'letters' with fewer"),
        (REGISTRY + "letters,idx,,,,,,\n", "Row 2 .* got 'letters' with more"),
        ("loader,urls\nidx,\n", "Row 1 .* needs a 'name'"),
        ("\xff", "is not a CSV file in UTF-8"),
    ],
)
def test_a_broken_registry_is_one_sentence(home, text, said):
    path = home / "workflow/registry/datasets.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=said) as error:
        explain.lineage(home / TABLE)
    assert str(path) in str(error.value)


def test_what_a_script_does_is_told_where_it_can_be_read(home):
    assert explain.lineage(home / TABLE)["does"] == "Attack one shard."
    (home / "scripts/attack.py").write_text("no Python:", encoding="utf-8")
    assert explain.lineage(home / TABLE)["does"] is None


def test_explaining_needs_neither_torch_nor_snakemake():
    program = (
        "import sys; from bandlimit.provenance import explain; "
        "print({'torch', 'snakemake', 'jsonschema'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
