import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image, PngImagePlugin

from bandlimit.data import make, stream
from bandlimit.defenses import evaluation
from bandlimit.errors import MachineError, UserError
from bandlimit.files import certificates, contents, own_code, store
from bandlimit.models import architectures, classifier, weights
from bandlimit.plan import catalogue, code, jobs
from bandlimit.plots import files
from bandlimit.provenance import job, origin, replay, samples
from bandlimit.provenance.verdicts import Finding
from bandlimit.studies.bandlimiting import theory
from bandlimit.studies.bandlimiting import theory_figures as plots

HOME = Path(__file__).parents[2]
RESPONSE = "results/tables/bandlimiting/sampler_response.parquet"
FIGURE = {
    form: f"results/figures/bandlimiting/figure_response.{form}" for form in ("png", "pdf", "svg")
}
DATASET = "results/datasets/few.parquet"
MODEL = "results/models/net.safetensors"
EVALUATION = "results/evaluations/few/net/clean/undefended/2of2.parquet"
IDS = [f"image {number}" for number in range(10)]
SHARD = IDS[1::2]


@dataclass
class Stored:
    """A folder of results, and the certificate of a job there."""

    results: Path
    certificate: dict[str, Any]

    def path(self, name: str) -> Path:
        return self.results / Path(name).relative_to("results")

    def redraw(self, **changes: Any) -> list[Finding]:
        return replay.redraw(self.certificate | changes, results=self.results, home=HOME)

    def sample(self, images: int = 5, seed: int = 0, **changes: Any) -> Finding:
        (finding,) = samples.sample(
            self.certificate | changes,
            results=self.results,
            home=HOME,
            images=images,
            seed=seed,
        )
        return finding

    def rewrite(self, name: str, change) -> None:
        """Change the rows of a file as a frame without images; it keeps its certificate."""
        path = self.path(name)
        schema = store.read(path).schema
        frame = change(store.read(path).to_pandas())
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        store.write(path, table, contents.certificate(path))

    def files(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in self.results.rglob("*") if p.is_file()}


def certificate(rule, params, reads, writes):
    """Return what the job of a rule says, inputs lying in the working folder."""
    script = f"scripts/{rule.replace('bandlimiting_', 'bandlimiting/')}.py"
    names = [n for value in reads.values() for n in ([value] if isinstance(value, str) else value)]
    return origin.certificate(
        rule=rule,
        params=params,
        inputs={name: name for name in names},
        script=script,
        code=code.files_of(script, HOME),
        lock="requirements.lock",
        home=HOME,
        device="cpu",
        reads=reads,
        writes=writes,
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return a figure and the table that it was drawn from."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        records = theory.sampler_response_records(n=48, directions=2, draws=50)
        store.write(RESPONSE, pa.Table.from_pandas(pd.DataFrame(records), preserve_index=False))
        proof = certificate(
            "bandlimiting_figure_response", {"wildcards": {}}, {"response": RESPONSE}, FIGURE
        )
        figure = plots.response(store.read(RESPONSE).to_pandas())
        files.save(figure, **FIGURE, certificate=proof)
    return Stored(folder / "results", proof)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Return what a model says of the second half of a dataset of ten images."""
    folder = tmp_path_factory.mktemp("judged")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 1, 28, 28), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(folder)
        torch.manual_seed(0)
        store.write(DATASET, make.table(IDS, range(10), ["test"] * 10, images))
        weights.save(
            MODEL,
            architectures.build("cifar_resnet20", classes=10, channels=1).state_dict(),
            architecture="cifar_resnet20",
            mean=[0.5],
            std=[0.25],
            shape=[1, 28, 28],
            classes=10,
        )
        names = {"dataset": "few", "model": "net", "shard": "2of2"}
        proof = certificate(
            "evaluate_undefended",
            {"device": "auto", "seed": 0, "gate": [1.0, 0.0], "wildcards": names},
            {"dataset": DATASET, "model": MODEL, "gates": []},
            {"evaluation": EVALUATION},
        )
        ids, labels, pixels = next(stream.batches(DATASET, 10, "2of2"))
        assert ids == SHARD
        with torch.no_grad():
            probability = torch.softmax(classifier.load(MODEL, "cpu")(pixels), dim=1).double()
        evaluation.write(EVALUATION, evaluation.undefended(ids, labels, probability), proof)
    return Stored(folder / "results", proof)


@pytest.fixture
def drawing(drawn, tmp_path):
    """Return a copy of the figure and its table, to be changed."""
    shutil.copytree(drawn.results, tmp_path / "results")
    return Stored(tmp_path / "results", drawn.certificate)


@pytest.fixture
def judgement(judged, tmp_path):
    """Return a copy of what a model says, to be changed."""
    shutil.copytree(judged.results, tmp_path / "results")
    return Stored(tmp_path / "results", judged.certificate)


def verdicts(findings):
    return {finding.file: finding.verdict for finding in findings}


def test_each_rule_is_replayed_in_one_way_or_known_not_to_be():
    records = {**jobs.SHARED, **catalogue.records()}
    # Trained models and downloads are inputs, and have a checksum or a history of their own; boxes
    # are of COCO's pictures, which no dataset of the run holds.
    assert {rule for rule in records if jobs.replay_kind(rule) is None} == {
        "train_model",
        "download_weights",
        "download_dataset",
        "download_detector",
        "detect_objects",
        "static_site",
        "manifest",
        "ro_crate",
    }
    assert all((HOME / f"scripts/{rule}.py").is_file() for rule in records)
    kinds = {f"{s}_{a.name}": jobs.replay_kind(f"{s}_{a.name}") for s, a in catalogue.artifacts()}
    assert {rule for rule, kind in kinds.items() if kind != "redrawn"} == {
        "bandlimiting_table_2_time"
    }
    assert kinds["bandlimiting_table_2_time"] == "measured"
    assert jobs.replay_kind("no_such_rule") is None


# Whole results


def test_a_figure_is_made_again_and_is_equal(drawn):
    before = drawn.files()
    findings = drawn.redraw()
    assert verdicts(findings) == dict.fromkeys(FIGURE.values(), "OK")
    assert findings[0].detail.startswith("equal, 21")
    assert findings[0].detail.endswith(" pixels")
    assert drawn.files() == before


def test_an_output_tells_enough_to_make_all_of_them_again(drawn):
    own = contents.certificate(drawn.path(FIGURE["pdf"]))
    findings = replay.redraw(own, results=drawn.results, home=HOME)
    assert verdicts(findings) == dict.fromkeys(FIGURE.values(), "OK")


def test_a_figure_of_a_number_that_was_changed_is_not_made_again(drawing):
    def change(frame):
        frame.loc[3, "measured"] += 0.05
        return frame

    drawing.rewrite(RESPONSE, change)
    findings = drawing.redraw()
    assert verdicts(findings) == dict.fromkeys(FIGURE.values(), "TAMPERED")
    assert "pixels" in findings[0].detail and "row" in findings[0].detail


def test_a_pixel_that_was_painted_over_is_told_by_its_place(drawing):
    path = drawing.path(FIGURE["png"])
    with Image.open(path) as image:
        painted = image.copy()
    painted.putpixel((40, 30), (255, 0, 0, 255)[: len(painted.getbands())])
    proof = certificates.sealed(drawing.certificate, path, contents.pixels(painted))
    text = PngImagePlugin.PngInfo()
    text.add_text(certificates.KEY, certificates.as_text(proof))
    painted.save(path, pnginfo=text)
    png, *others = drawing.redraw()
    assert (png.file, png.verdict) == (FIGURE["png"], "TAMPERED")
    assert "1 differ" in png.detail and "column 40 and 40, row 30 and 30" in png.detail
    assert {finding.verdict for finding in others} == {"OK"}


def test_a_stroke_that_was_moved_in_a_figure_is_told_by_its_line(drawing):
    path = drawing.path(FIGURE["svg"])
    rows = path.read_text(encoding="utf-8").splitlines()
    number = next(n for n, row in enumerate(rows) if row.lstrip().startswith('<path d="M'))
    rows[number] = rows[number].replace("M ", "M 1", 1)
    path.write_text("\n".join([*rows, ""]), encoding="utf-8")
    by_file = {finding.file: finding for finding in drawing.redraw()}
    assert by_file[FIGURE["svg"]].verdict == "TAMPERED"
    assert by_file[FIGURE["svg"]].detail.startswith(f"Line {number + 1} is ")
    assert by_file[FIGURE["pdf"]].verdict == "OK"


def test_what_is_missing_is_named(drawing):
    drawing.path(FIGURE["pdf"]).unlink()
    assert verdicts(drawing.redraw())[FIGURE["pdf"]] == "MISSING"
    drawing.path(RESPONSE).unlink()
    assert verdicts(drawing.redraw()) == {RESPONSE: "MISSING"}


def test_damage_is_a_finding(drawing):
    path = drawing.path(FIGURE["png"])
    path.write_bytes(path.read_bytes()[:2000])
    assert verdicts(drawing.redraw())[FIGURE["png"]] == "TAMPERED"
    path = drawing.path(RESPONSE)
    path.write_bytes(path.read_bytes()[:-20])
    findings = drawing.redraw()
    assert set(verdicts(findings).values()) == {"TAMPERED"}
    assert "damaged" in findings[0].detail


@pytest.mark.parametrize("rule", ["table_2_time", "attack", "train_model", "../tests/conftest"])
def test_a_rule_that_is_not_made_again_whole_is_told(drawn, rule):
    findings = drawn.redraw(rule=rule)
    assert verdicts(findings) == dict.fromkeys(FIGURE.values(), "NOT COMPARED")


@pytest.mark.parametrize("script", ["tests/conftest.py", "scripts/../own.py", "/own.py", None])
def test_nothing_is_run_that_is_not_a_script_of_the_project(drawn, script):
    findings = drawn.redraw(script=script)
    assert verdicts(findings) == dict.fromkeys(FIGURE.values(), "TAMPERED")
    assert "does not lie in 'scripts'" in findings[0].detail


def test_a_script_that_is_gone_is_told(drawn):
    findings = drawn.redraw(script="scripts/bandlimiting/figure_0.py")
    assert verdicts(findings) == dict.fromkeys(FIGURE.values(), "NOT COMPARED")


def test_a_certificate_of_another_format_is_not_followed(drawn):
    assert set(verdicts(drawn.redraw(format=1)).values()) == {"NOT COMPARED"}


# Certificates are read from files that anyone may have written.


@pytest.mark.parametrize("name", ["{}/own.png", "../own.png", "data/own.png", "results/../own.png"])
def test_nothing_is_written_outside_the_stage(drawing, tmp_path, name):
    name = name.format(tmp_path)
    (tmp_path / "own.png").write_text("mine")
    (finding, *_) = drawing.redraw(writes={**FIGURE, "png": name})
    assert finding.verdict == "TAMPERED"
    assert name in finding.detail
    assert (tmp_path / "own.png").read_text() == "mine"


def test_nothing_is_written_by_way_of_a_folder_that_is_read(drawing):
    before = drawing.files()
    reads = {"response": RESPONSE, "all": "results/figures"}
    findings = drawing.redraw(reads=reads)
    assert set(verdicts(findings).values()) == {"TAMPERED"}
    assert drawing.files() == before


def test_a_file_of_the_user_is_not_taken_for_a_copy(judgement, tmp_path):
    own = tmp_path / "own.parquet"
    shutil.copy(judgement.path(DATASET), own)
    before = own.read_bytes()
    finding = judgement.sample(reads={"dataset": str(own), "model": MODEL})
    assert finding.verdict == "TAMPERED"
    assert own.read_bytes() == before


# Samples


def test_images_judged_again_are_equal(judged):
    before = judged.files()
    finding = judged.sample(2)
    assert (finding.file, finding.verdict) == (EVALUATION, "OK")
    assert finding.detail.startswith("equal, 2 rows of 2 images ('image ")
    assert sum(repr(name) in finding.detail for name in SHARD) == 2
    assert judged.files() == before


def test_a_seed_decides_which_images_and_more_contain_less(judged):
    def chosen(images, seed):
        detail = judged.sample(images, seed).detail
        return {name for name in IDS if repr(name) in detail}

    assert chosen(2, 0) == chosen(2, 0) < chosen(4, 0) < chosen(99, 0) == set(SHARD)
    assert len({frozenset(chosen(2, seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("p_true", 0.25, "0.25 is stored"),
        ("p_true", np.nan, "is stored"),
        ("prediction", 11, "11 is stored"),
        ("label", 8, "8 is stored, 5 made again"),
    ],
)
def test_a_changed_value_is_named_with_image_and_column(judgement, column, value, said):
    def change(frame):
        frame.loc[frame["image_id"] == "image 5", column] = value
        return frame

    judgement.rewrite(EVALUATION, change)
    finding = judgement.sample()
    assert finding.verdict == "TAMPERED"
    assert finding.detail.startswith("Image 'image 5' ")
    assert f"column {column!r}: " in finding.detail and said in finding.detail
    assert "1 of 5 rows differs" in finding.detail


def test_an_image_taken_out_or_put_in_is_named(judgement):
    judgement.rewrite(EVALUATION, lambda frame: frame[frame["image_id"] != "image 3"])
    finding = judgement.sample()
    assert finding.verdict == "TAMPERED"
    assert finding.detail.startswith("Image 'image 3' ")
    assert "0 rows stored, and 1 made again" in finding.detail
    twice = [0, 1, 1, 2, 3]
    judgement.rewrite(EVALUATION, lambda frame: frame.iloc[twice])
    assert "has 2 rows stored, and 1 made again" in judgement.sample().detail


def test_numbers_may_differ_by_the_tolerance(judgement):
    judgement.rewrite(EVALUATION, lambda frame: frame.assign(margin=frame["margin"] + 3e-6))
    finding = judgement.sample()
    assert finding.verdict == "OK"
    assert "within 3e-06" in finding.detail
    (finding,) = samples.sample(
        judgement.certificate,
        results=judgement.results,
        home=HOME,
        images=5,
        seed=0,
        tolerance=0,
    )
    assert finding.verdict == "TAMPERED"
    assert "5 of 5 rows differ" in finding.detail


def test_records_of_another_device_that_differ_prove_nothing(judgement):
    assert judgement.sample(device="a card of old").verdict == "OK"
    judgement.rewrite(EVALUATION, lambda frame: frame.assign(prediction=frame["prediction"] + 1))
    finding = judgement.sample(device="a card of old")
    assert finding.verdict == "MISSING"
    assert "a card of old" in finding.detail


def test_missing_and_damaged_files_of_a_sample_are_findings(judgement):
    path = judgement.path(EVALUATION)
    path.rename(path.with_suffix(".away"))
    assert judgement.sample().verdict == "MISSING"
    path.write_bytes(path.with_suffix(".away").read_bytes()[:-30])
    assert judgement.sample().verdict == "TAMPERED"
    judgement.path(MODEL).write_bytes(b"no model")
    finding = judgement.sample()
    assert finding.verdict == "TAMPERED" and "made again" in finding.detail
    judgement.path(MODEL).unlink()
    assert (judgement.sample().file, judgement.sample().verdict) == (MODEL, "MISSING")


def test_a_certificate_without_what_the_job_needs_is_a_finding(judged):
    finding = judged.sample(params={"seed": 0, "wildcards": {"dataset": "few"}})
    assert finding.verdict == "TAMPERED"
    assert "shard" in finding.detail


ADVERSARIAL = {f"image {n}": n in (1, 2, 5, 9) for n in range(10)}
"""Whether an attack succeeded."""


@pytest.mark.parametrize(
    ("rule", "keyword", "attacked", "params", "expected"),
    [
        ("evaluate_undefended", "dataset", False, {}, SHARD),
        ("evaluate_post_averaging", "images", False, {}, SHARD),
        ("evaluate_post_averaging", "images", True, {}, [1, 2, 5, 9]),
        ("count_crossings", "adversarial", True, {}, [1, 2, 5, 9]),
        ("scale_perturbations", "adversarial", True, {"images": None}, [1, 2, 5, 9]),
        ("scale_perturbations", "adversarial", True, {"images": 6}, "chosen successes"),
        ("judge_defense", "dataset", False, {"images": 6}, "chosen shard"),
    ],
)
def test_the_images_of_a_job_are_those_it_has_records_of(
    judgement, rule, keyword, attacked, params, expected
):
    kept = stream.chosen(judgement.path(DATASET), 6, name="few", seed=0)
    successes = [name for name, success in ADVERSARIAL.items() if success]
    wanted = {
        "chosen shard": [name for name in SHARD if name in kept],
        "chosen successes": [name for name in successes if name in kept],
    }
    expected = wanted[expected] if isinstance(expected, str) else expected
    expected = [name if isinstance(name, str) else f"image {name}" for name in expected]
    file = "results/adversarial/few/net/pgd/1of1.parquet" if attacked else DATASET
    if attacked:
        rows = {"image_id": list(ADVERSARIAL), "success": list(ADVERSARIAL.values())}
        store.write(judgement.path(file), pa.table(rows))
    reads = {"dataset": DATASET, keyword: [file] if rule == "scale_perturbations" else file}
    names = {"dataset": "few", "model": "net", "shard": "2of2"}
    proof = judgement.certificate | {
        "rule": rule,
        "reads": reads,
        "params": {"seed": 0, "wildcards": names, **params},
    }
    job = replay.Job(proof, judgement.results, HOME)
    assert samples._image_ids(job) == expected


@pytest.mark.parametrize("changes", [{"shard": "half"}, {"shard": "2"}])
def test_a_malformed_shard_is_a_finding(judged, changes):
    names = {"dataset": "few", "model": "net", **changes}
    finding = judged.sample(params={"device": "cpu", "seed": 0, "wildcards": names})
    assert finding.verdict == "TAMPERED"
    assert "does not say what the job needs" in finding.detail


def test_a_rule_without_rows_of_images_is_not_sampled(judged):
    assert judged.sample(rule="figure_2").verdict == "NOT COMPARED"


def test_a_sample_has_an_image(judged):
    with pytest.raises(ValueError, match="at least 1"):
        judged.sample(0)


# The process


def test_other_code_in_this_process_than_in_the_project_is_told(judged, tmp_path):
    where = {"results": judged.results, "home": tmp_path, "images": 1, "seed": 0}
    for name in judged.certificate["code"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOME / name, tmp_path / name)
    (finding,) = samples.sample(judged.certificate, **where)
    assert finding.verdict == "OK"
    for text, verdict in (("# as it was", "OK"), ("OTHER = 1", "NOT COMPARED"), ("(", None)):
        with open(tmp_path / "bandlimit/defenses/evaluation.py", "a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")
        (finding,) = samples.sample(judged.certificate, **where)
        assert finding.verdict == (verdict or "NOT COMPARED")
        assert ("bandlimit/defenses/evaluation.py differs" in finding.detail) == (verdict != "OK")


@pytest.mark.parametrize("fails", [False, True])
def test_the_process_is_left_as_it_was(judgement, fails):
    def state():
        root = logging.getLogger()
        return (
            os.getcwd(),
            list(sys.path),
            list(root.handlers),
            (root.level, logging.getLogger("bandlimit").level),
            (warnings.showwarning, list(warnings.filters), logging.raiseExceptions),
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
            (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
            {"job", "examined"} & set(sys.modules),
        )

    if fails:
        judgement.path(MODEL).write_bytes(b"no model")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        before = state()
        assert judgement.sample().verdict == ("TAMPERED" if fails else "OK")
        assert state() == before
    finally:
        torch.set_num_threads(threads)


class OutOfMemoryError(RuntimeError):
    """As that of torch."""


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ImportError("No module named 'x'"), "NOT COMPARED"),
        (OSError(28, "No space left on device"), "NOT COMPARED"),
        (MemoryError(), "NOT COMPARED"),
        (OutOfMemoryError("CUDA out of memory"), "NOT COMPARED"),
        (RuntimeError("CUDA error: device-side assert"), "NOT COMPARED"),
        (DeprecationWarning("an option of this machine makes warnings errors"), "NOT COMPARED"),
        (UnicodeEncodeError("ascii", "ü", 0, 1, "an old locale"), "NOT COMPARED"),
        (MachineError("The disk is full."), "NOT COMPARED"),
        (own_code.Unlike("The defence names a file, and there is none."), "NOT COMPARED"),
        (UserError("The file is damaged."), "TAMPERED"),
        (KeyError("rate"), "TAMPERED"),
        (RuntimeError("shapes do not match"), "TAMPERED"),
    ],
)
def test_an_error_of_this_machine_proves_nothing(drawn, monkeypatch, error, verdict):
    def main(this):
        raise error

    def run_path(path, given, run_name):
        job.run(main, given["snakemake"])

    monkeypatch.setattr(replay.runpy, "run_path", run_path)
    findings = drawn.redraw()
    assert verdicts(findings) == dict.fromkeys(FIGURE.values(), verdict)
    assert "could not be made again" in findings[0].detail


def test_a_figure_is_made_again_by_a_notebook(drawn):
    code = (
        "import json, sys; from bandlimit.provenance import replay;"
        "proof = json.load(sys.stdin);"
        "found = replay.redraw(proof, results=sys.argv[1], home=sys.argv[2]);"
        "print(sorted({f.verdict.value for f in found}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(drawn.results), str(HOME)],
        input=json.dumps(drawn.certificate),
        env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        cwd=HOME,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "['OK']\n", done.stderr
