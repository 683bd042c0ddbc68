"""The command `bandlimit`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bandlimit.config import overlays
from bandlimit.errors import UserError, suggest
from bandlimit.plan import catalogue, last, load
from bandlimit.studies import STUDIES

MANIFEST = "provenance/manifest.json"
"""The manifest, in the folder of the results."""

REPORT = "results/report.html"
"""Snakemake's report."""

SIGNATURE = "manifest.dsse.json"
"""Name of the signed envelope, beside the manifest."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: that of the command, 1 after a user's mistake.

    A file that is missing ends an audit with 2.
    """
    parser = argparse.ArgumentParser(
        prog="bandlimit", description="The frequency view of adversarial examples, recomputed."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (
        *(_add_new, _add_plan, _add_artifacts, _add_audit, _add_explain, _add_verify, _add_sign),
        *(_add_status, _add_report, _add_adopt, _add_check_defense),
    ):
        add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        # Commands that plan need the project; those that prove say MISSING.
        if os.path.exists("workflow/schemas"):
            raise
        print(
            f"Error: The project is not here: {error.filename!r} is missing. The command runs in "
            "the folder of the workflow.",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        # A reader that had enough, such as `head`; nothing more may be written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "plan",
        help="say what a run takes: images, forward passes, bytes, hours",
        description="Hours are told of networks that a run in this folder has attacked, such as "
        "one with few images on the same machine.",
    )
    _configfile(parser)
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="propose shards for jobs of M minutes"
    )
    parser.set_defaults(run=_plan)


def _plan(options: argparse.Namespace) -> int:
    config = overlays.read(["config.yaml", *options.configfile])
    if options.minutes is not None and not options.minutes > 0:
        raise UserError(f"--minutes must be a number above 0, got {options.minutes:g}.")
    # They import torch, which an error above should not wait for.
    from bandlimit.plan import cost, rates

    run = load.load(config, ".", look=True)
    print(cost.report(run))
    found = rates.measured("results")
    if found:
        print(f"\n{rates.report(run, found, options.minutes)}")
    elif options.minutes is not None:
        raise UserError(
            "How long a job takes is known once a run in this folder has attacked a network; there "
            "is no 'results/benchmarks/attack': make one with few images first."
        )
    return 0


def _add_new(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "new",
        help="write a configuration for a network and images of your own",
        description="Looks at both, and writes config/NAME.yaml.",
    )
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits, underscores")
    parser.add_argument(
        "--images", required=True, metavar="DIR", help="a folder with a folder for each class"
    )
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help=".safetensors or a PyTorch state dict"
    )
    parser.add_argument("--architecture", metavar="A", help="where the tensors do not tell")
    parser.add_argument("--classes", type=int, metavar="N", help="how many the weights must have")
    for key in ("mean", "std"):
        parser.add_argument(
            f"--{key}", type=float, nargs="+", metavar="X", help="for each channel, of [0, 1]"
        )
    parser.add_argument(
        "--images-per-run", type=int, metavar="N", help="a seeded subset (default: 200, or all)"
    )
    parser.add_argument("--out", metavar="FILE", help="default: config/NAME.yaml")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(run=_new)


def _new(options: argparse.Namespace) -> int:
    from bandlimit.plan import new

    found = new.write(
        options.name,
        images=options.images,
        weights_path=options.weights,
        architecture=options.architecture,
        classes=options.classes,
        mean=options.mean,
        std=options.std,
        images_per_run=options.images_per_run,
        out=options.out,
        force=options.force,
    )
    print(found)
    return 0


def _add_check_defense(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check-defense",
        help="try a defence on a few images, before a run attacks it",
        description="Exit status: 0, or 1 where something failed.",
    )
    parser.add_argument("name", metavar="NAME", help="of the defence in the configuration")
    _configfile(parser)
    parser.set_defaults(run=_check_defense)


def _check_defense(options: argparse.Namespace) -> int:
    config = overlays.read(["config.yaml", *options.configfile])
    run = load.load(config, ".")
    from bandlimit.studies.robustness import trial  # imports torch

    found = trial.lines(run, options.name)
    print(trial.text(found))
    return int(any(line.state == trial.FAILED for line in found))


def _add_artifacts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("artifacts", help="list the tables and figures of each study")
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="default: all")
    parser.set_defaults(run=_artifacts)


def _artifacts(options: argparse.Namespace) -> int:
    for study in options.studies or STUDIES:
        if study not in STUDIES:
            raise UserError(f"There is no study {study!r}; {suggest(study, STUDIES)}.")
        print(f"{catalogue.study_title(study)}\n\n{catalogue.listing(study)}\n")
    return 0


def _configfile(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """Add overlays as Snakemake takes them: several after one option, or the option repeated."""
    parser.add_argument(
        "--configfile",
        action="extend" if several else "append",
        nargs="+" if several else None,
        default=[],
        metavar="FILE",
        help="overlay on config.yaml, may be repeated",
    )


def _places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", metavar="DIR", help="the results tree (default: where the file lies, or here)"
    )
    parser.add_argument(
        "--home", metavar="DIR", help="the project: code, lock, configuration (default: beside it)"
    )


def _add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "audit",
        help="walk a result back to images, weights, code and settings, and check each step",
        description="Exit status: 0 all is as the certificates say, 1 something differs, "
        "2 something is missing.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="any file of the results")
    _places(parser)
    parser.add_argument(
        "--level",
        default="hash",
        help="meta (certificates link up), hash (every file hashed; the default), redraw (the file "
        "made again from its inputs), sample (some images attacked and judged again)",
    )
    parser.add_argument(
        "--images", type=int, default=2, metavar="K", help="images of each set at level sample"
    )
    parser.add_argument("--seed", type=int, default=0, help="which images at level sample")
    parser.add_argument(
        "--tolerance", type=float, metavar="T", help="how far numbers may be off at level sample"
    )
    # One at a time: what follows may be a file to audit.
    _configfile(parser, several=False)
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")
    parser.set_defaults(run=_audit)


def _audit(options: argparse.Namespace) -> int:
    from bandlimit.provenance import audit

    if options.images < 1:
        raise UserError(f"--images must be at least 1, got {options.images}.")
    auditor = audit.Auditor(
        options.results,
        options.home,
        level=options.level,
        configfiles=["config.yaml", *options.configfile] if options.configfile else None,
        images=options.images,
        seed=options.seed,
        tolerance=options.tolerance,
    )
    statuses, found = [], []
    for path in options.files:
        if not os.path.exists(path):
            print(f"MISSING: the file {path!r} does not exist.", file=sys.stderr)
            statuses.append(2)
            continue
        try:
            done = auditor.audit(path)
        except UserError as error:
            # The others are audited all the same.
            print(f"Error: {error}", file=sys.stderr)
            statuses.append(1)
            found.append({"file": path, "error": str(error), "status": 1})
            continue
        statuses.append(done.status)
        found.append(done.as_dict())
        if not options.json:
            print(audit.text(done))
    if options.json:
        print(json.dumps(found, indent=1))
    return 1 if 1 in statuses else max(statuses)


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("explain", help="say in words where a result comes from")
    parser.add_argument("file", metavar="FILE", help="any file of the results, or a copy of one")
    parser.add_argument(
        "--results", metavar="DIR", help="the results tree, for a copy that lies elsewhere"
    )
    parser.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    from bandlimit.provenance import explain

    print(explain.text(explain.lineage(options.file, options.results)), end="")
    return 0


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "verify",
        help="hash all results again, and hold them against the manifest and its signature",
        description="Exit status: 0 all is as the manifest says, 1 otherwise.",
    )
    _places(parser)
    parser.add_argument("--key", metavar="FILE", help="public key: the signature is checked too")
    parser.add_argument(
        "--signature", metavar="FILE", help=f"default: {SIGNATURE} beside the manifest"
    )
    parser.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from bandlimit.provenance import crate, manifest, signing

    results = Path(options.results or "results")
    beside = Path(os.path.abspath(results)).parent
    home = options.home or (beside if (beside / "bandlimit").is_dir() else None)
    listed = results / MANIFEST
    found = manifest.check(results, home)
    folder = listed.with_name("ro-crate")
    if folder.exists():
        found += crate.check(folder, listed.with_name("ro-crate.zip"), manifest.read(listed))
    print("\n".join(manifest.lines(found)))
    if home is None:
        print("Code, lock and own data were not compared: name the project's folder by --home.")
    if options.key is not None:
        signature = options.signature or listed.with_name(SIGNATURE)
        signing.verify(listed, signature, options.key)
        print(f"The manifest is signed by the owner of {options.key}.")
    return 0 if manifest.is_sound(found) else 1


def _add_sign(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("sign", help="sign the manifest of a run by an Ed25519 key")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--generate", metavar="FILE", help="make a key pair: FILE and FILE.pub")
    what.add_argument("--key", metavar="FILE", help="private key (PEM) to sign with")
    parser.add_argument("--results", metavar="DIR", default="results", help="the results tree")
    parser.set_defaults(run=_sign)


def _sign(options: argparse.Namespace) -> int:
    from bandlimit.provenance import signing

    if options.generate is not None:
        signing.generate(options.generate, f"{options.generate}.pub")
        print(f"Made {options.generate} (keep it secret) and {options.generate}.pub (hand it out).")
        return 0
    listed = Path(options.results) / MANIFEST
    out = listed.with_name(SIGNATURE)
    signing.sign(listed, options.key, out)
    print(f"Wrote {out}.")
    return 0


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "status", help="say what is done, running, failed and to do, and how long the rest takes"
    )
    _configfile(parser)
    parser.add_argument(
        "--cores", type=int, help="jobs at a time where nothing was measured yet (default: all)"
    )
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    from bandlimit.plan import status

    print(status.report(given=last.given(options.configfile), cores=options.cores), end="")
    return 0


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "report", help="finish a run, and write one page with all tables and figures"
    )
    _configfile(parser)
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    given = last.given(options.configfile)
    for more in (["--cores", "all"], ["--report", REPORT]):
        done = subprocess.run([sys.executable, "-m", "snakemake", *given.options(), *more])
        if done.returncode:
            return done.returncode
    return 0


def _add_adopt(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "adopt",
        help="take results that were copied in for those of a run here, after an audit of all",
        description="Exit status: 0, or that of the audit where something is not as it says; then "
        "nothing is taken over.",
    )
    _configfile(parser)
    parser.set_defaults(run=_adopt)


def _adopt(options: argparse.Namespace) -> int:
    from bandlimit.provenance import adoption

    given = last.given(options.configfile)
    wrong = adoption.check(given)
    if wrong:
        print("\n".join(f"{found.verdict:<8}  {found.file}: {found.detail}" for found in wrong))
        print("Nothing was taken over: a run makes again what is not as it was.", file=sys.stderr)
        return 2 if {found.verdict for found in wrong} == {"MISSING"} else 1
    adoption.adopt(given)
    print(f"The results are now those of a run here, with {given}.")
    return 0
