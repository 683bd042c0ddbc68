"""What a finished run leaves: only outputs of rules, each with the proof of its origin."""

import hashlib
import json
import re
from collections.abc import Iterator

import pytest

from bandlimit.files import contents, store
from bandlimit.files.certificates import FORMAT
from bandlimit.plan import code

MODELS = {f"results/models/model_{name}.safetensors" for name in "ab"}
DATASET = "results/datasets/tiny.parquet"


@pytest.fixture(scope="module")
def certificates(tiny_run):
    """Return the certificate of each result by its path, a file without one included."""
    return {
        path.as_posix(): contents.certificate(tiny_run.folder / path) for path in tiny_run.results()
    }


def texts(value) -> Iterator[str]:
    """Yield all keys and texts in a certificate."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def test_every_result_is_an_output_of_a_rule(tiny_run):
    done = tiny_run.run("--summary")
    outputs = {line.split("\t")[0] for line in done.stdout.splitlines() if "\t" in line}
    strangers = [
        path
        for path in tiny_run.results()
        if not outputs & {path.as_posix(), *(part.as_posix() for part in path.parents)}
    ]
    assert strangers == []
    assert all((tiny_run.folder / name).exists() for name in outputs - {"output_file"})


def test_every_kind_of_result_is_there(tiny_run):
    suffixes = {path.suffix for path in tiny_run.results()}
    kinds = {".parquet", ".safetensors", ".md", ".tex", ".csv", ".png", ".pdf", ".svg"}
    kinds |= {".html", ".rst", ".json"}
    assert suffixes == kinds


def test_every_result_carries_a_certificate(certificates):
    assert [path for path, found in certificates.items() if not found] == []
    assert {found["format"] for found in certificates.values()} == {FORMAT}


def test_certificates_name_their_inputs_as_they_are(tiny_run, certificates):
    """The hash of each input and of each code file is that of the file that lies there."""
    digests = {}

    def digest(name):
        if name not in digests:
            content = (tiny_run.folder / name).read_bytes()
            digests[name] = hashlib.sha256(content).hexdigest()
        return digests[name]

    for path, found in certificates.items():
        inputs = {name: given["sha256"] for name, given in found["inputs"].items()}
        for name, given in found["code"].items():
            assert given == code.tree_digest(tiny_run.folder / name), f"{path}: {name}"
        for name, given in inputs.items():
            if (tiny_run.folder / name).is_file():
                assert given == digest(name), f"{path}: {name}"
            else:
                # Folders; what is in them is in their listing.
                assert name in ("own images", "results/site"), f"{path}: {name}"
        assert found["lock"] == {"requirements.lock": digest("requirements.lock")}, path
        assert found["script"] in found["code"], path
        assert "bandlimit/errors.py" in found["code"], path


def origin(certificates, path):
    """Return all files that a result depends on, walking back from certificate to certificate."""
    found, waiting = set(), [path]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += certificates.get(name, {"inputs": {}})["inputs"]
    return found - {path}


THEORY = (
    "region_counts",
    "lemma_2_6",
    "simplex_decay",
    "theorem_2_7",
    "equation_6",
    "sampler_response",
    "figure_1",
    "figure_response",
)


def test_certificates_lead_back_to_images_and_weights(certificates):
    for path in certificates:
        parts = path.split("/")
        from_theory = parts[1] == "theory" or parts[-1].split(".")[0] in THEORY
        if from_theory or parts[1] in ("models", "datasets"):
            continue
        found = origin(certificates, path)
        assert {DATASET, "own images"} <= found, path
        models = MODELS & found
        if parts[1] in ("adversarial", "evaluations", "crossings"):
            assert models == {f"results/models/{parts[3]}.safetensors"}, path
        elif parts[1] in ("judgements", "symptoms", "controls") or "other_model" in parts:
            # The other model is attacked, or a control.
            assert models == MODELS, path
        elif parts[1] in ("defense_attacks", "scalings"):
            assert models == {f"results/models/{parts[3]}.safetensors"}, path
        else:
            assert models, path
        weights = {f"weights/{name[-len('a.safetensors')]}.th" for name in models}
        assert weights <= found, path


def test_tables_lead_back_to_both_models(certificates):
    for name in ("defense_rates", "table_1"):
        found = origin(certificates, f"results/tables/bandlimiting/{name}.md")
        assert found >= MODELS
    assert "workflow/claims/bandlimiting.yaml" in found


def test_the_ledger_leads_back_to_every_table_and_to_what_was_claimed(certificates):
    found = origin(certificates, "results/claims/claims.html")
    tables = {path for path in certificates if path.startswith("results/tables/")}
    assert {path for path in tables if path.endswith(".parquet")} - found == set()
    assert {f"workflow/claims/{name}.yaml" for name in ("bandlimiting", "robustness")} <= found
    assert found >= {DATASET, *MODELS}
    assert any(path.startswith("results/defense_attacks/") for path in found)


def test_the_ledger_decides_no_claim_of_the_document_by_a_stand_in(tiny_run):
    frame = store.read(tiny_run.folder / "results/claims/claims.parquet").to_pandas()
    assert set(frame["study"]) == {"bandlimiting", "robustness"}
    # Null where nothing is measured, or where a computation decides.
    by_stand_in = {
        part: frame[f"{part}_stand_in"].fillna(False).astype(bool)
        for part in ("in_substance", "as_reported")
    }
    assert not by_stand_in["as_reported"].any()
    decided = frame[frame["as_reported"] != "not run at this scale"]
    assert set(decided["as_reported_measured_on"]) <= {"computation"}
    # In substance it answers.
    answered = frame.loc[by_stand_in["in_substance"], "in_substance"]
    assert len(answered) > 5
    assert "not asked" not in set(answered)


def test_all_forms_of_an_artifact_carry_one_certificate(certificates):
    stems = {}
    for path, found in certificates.items():
        if path.split("/")[1] in ("tables", "figures", "claims"):
            stems.setdefault(path.rpartition(".")[0], []).append(found)
    assert len(stems) > 24
    assert len(stems["results/claims/claims"]) == 3
    own = {"file", "content", "seal"}
    for forms in stems.values():
        shared = [{k: v for k, v in found.items() if k not in own} for found in forms]
        assert all(found == shared[0] for found in shared)


def test_every_result_agrees_with_its_certificate(tiny_run, certificates):
    for path, found in certificates.items():
        assert found["file"] == path
        assert contents.fault(tiny_run.folder / path) is None, path


def test_no_certificate_names_a_place_or_a_time(certificates):
    place = re.compile(r"(^|[\s\"'=:(])(/|[A-Za-z]:\\|~)")
    moment = re.compile(r"\b\d{4}-\d\d-\d\d\b|\b\d?\d:\d\d\b")
    names = {"time", "date", "start", "end", "seconds", "elapsed", "host", "user", "cwd"}
    for path, found in certificates.items():
        for text in texts(found):
            assert not place.search(text), f"{path}: {text}"
            assert not moment.search(text), f"{path}: {text}"
            assert text not in names, f"{path}: {text}"


def test_no_result_holds_the_place_it_was_made_at(tiny_run):
    place = str(tiny_run.folder)
    needles = {place.encode("utf-8"), json.dumps(place)[1:-1].encode()}
    needles |= {str(tiny_run.folder.parent).encode(), place.encode("utf-16-be")}
    for path in tiny_run.results():
        content = (tiny_run.folder / path).read_bytes()
        assert not any(needle in content for needle in needles), path


def test_pictures_hold_no_date(tiny_run):
    for path in tiny_run.results():
        content = (tiny_run.folder / path).read_bytes()
        dates = {
            ".png": [b"tIME", b"Creation Time"],
            ".pdf": [b"/CreationDate", b"/ModDate"],
            ".svg": [b"<dc:date>"],
        }.get(path.suffix, [])
        assert not any(date in content for date in dates), path
