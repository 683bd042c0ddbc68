"""What the rules need of the machine they run on: folders, locks, cards, files of code."""

import fcntl
import os
import sys
import time
from functools import partial
from pathlib import Path

from bandlimit import lineage, settings
from bandlimit.errors import UserError
from bandlimit.settings import ATTACKS
from bandlimit.status import LOOKING


def closed_sets(study):
    """Return what each wildcard may be, so that no path is ambiguous."""
    names = {
        "dataset": study.datasets,
        "model": study.models,
        "attack": ATTACKS,
        "inputs": ["clean", *ATTACKS],
        "examined": study.robustness.defenses,
        "adaptive": study.robustness.attacks,
    }
    return {name: "|".join(allowed or ["(?!)"]) for name, allowed in names.items()} | {
        "shard": r"\d+of\d+"
    }


def load_settings(config, home):
    """Return the checked settings, or end with one sentence."""
    try:
        check_writable("results")
        return settings.load(config, home)
    except UserError as error:
        sys.exit(f"Error: {error}")


def configuration(workflow):
    """Return which configuration files were given, and what the command line set, for certificates.

    Names are relative to the project, so that they mean the same in another place; a file that lies
    elsewhere is given by its name and what it holds.
    """
    files = ["config.yaml"]
    for path in workflow.overwrite_configfiles:
        name = os.path.relpath(path, workflow.basedir)
        if name.startswith(".."):
            files.append({"name": Path(path).name, "values": settings.read([path])})
        elif name not in files:
            files.append(name)
    return {"config": files, "overrides": dict(workflow.config_settings.config or {})}


def check_ready(study, local):
    """End with one sentence where a run that is about to start lacks a folder or a card.

    Planning a run needs neither; nor does the head of a cluster need the card.
    """
    try:
        settings.check_paths(study)
        if study.device == "cuda" and local:
            from bandlimit import models

            models.device("cuda")
    except UserError as error:
        sys.exit(f"Error: {error}")


def check_writable(folder):
    """Refuse a results folder that can't be written, before any work is lost."""
    try:
        os.makedirs(folder, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(
            f"The results folder {folder!r} can't be written; it must be a folder you may write to."
        )


def code_of(home):
    """Return a function that lists the code files a script reaches, as inputs of its rule."""
    return partial(_code, Path(home))


def _code(home, script):
    # Relative, so that a project that was moved re-runs nothing.
    return [os.path.relpath(home / path) for path in lineage.reach(f"scripts/{script}.py", home)]


def release_stale_lock():
    """Remove the lock that a killed run left behind, so that the same command goes on.

    A run holds a file lock, which ends with its process however that ends; where it can be taken,
    no other run is alive. A look at the run (`bandlimit status`) takes no lock: a run that begins
    beside it would find it taken, and not be known to be alive.
    """
    if os.environ.get(LOOKING):
        return None
    os.makedirs(".snakemake/locks", exist_ok=True)
    alive = open(".snakemake/alive", "w")  # noqa: SIM115 (open as long as the process lives)
    # A look at the run holds it for a moment.
    for last in (False,) * 10 + (True,):
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if last:
                alive.close()
                return None
            time.sleep(0.1)
    for lock in Path(".snakemake/locks").iterdir():
        lock.unlink()
    return alive


def gpus(study):
    """Return how many cards a job that touches a model takes; asks the driver, not torch."""
    card = Path("/proc/driver/nvidia/gpus").is_dir()
    return int(study.device == "cuda" or study.device == "auto" and card)


def own_file(home, path):
    """Return a file of the project, relative, so that a project that was moved re-runs nothing."""
    return os.path.relpath(f"{home}/{path}")


def claims_files(study, home):
    """Return the claims files of the studies that run."""
    names = ["bandlimiting"] + ["robustness"] * bool(study.robustness.examinations)
    return [own_file(home, f"workflow/claims/{name}.yaml") for name in names]


def research_object(home):
    """Return the files of the project that belong to the research object of a run."""
    names = [
        "Snakefile",
        "config.yaml",
        "LICENSE",
        "CITATION.cff",
        "README.md",
        "requirements.lock",
    ]
    parts = sorted(Path(home, "workflow").rglob("*"))
    names += [str(p.relative_to(home)) for p in parts if p.is_file() and p.suffix != ".pyc"]
    return [own_file(home, name) for name in names]


def own_files(home, pattern):
    """Return the files of the project that a pattern names, as `own_file` returns one."""
    return [own_file(home, path.relative_to(home)) for path in sorted(Path(home).glob(pattern))]
