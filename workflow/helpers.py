"""What the rules need of the machine they run on: folders, locks, cards, files of code."""

import fcntl
import itertools
import os
import platform
import sys
import time
from functools import partial
from pathlib import Path

from snakemake.io import strip_wildcard_constraints

from bandlimit.attacks.kinds import ATTACKS
from bandlimit.config import overlays
from bandlimit.config.run import check_paths, missing_paths
from bandlimit.errors import UserError
from bandlimit.plan import catalogue, last, load
from bandlimit.plan.code import digest
from bandlimit.plan.status import LOOKING
from bandlimit.studies import STUDIES


def check_folder(workflow):
    """End with one sentence where the run is not in the folder of the project.

    Configuration, data and results are named from there, in certificates too.
    """
    if not os.path.samefile(os.getcwd(), workflow.basedir):
        sys.exit(
            f"Error: The workflow runs in its own folder, {str(workflow.basedir)!r}, and was "
            f"started for {os.getcwd()!r}: leave out '--directory' ('-d') and start it there; a "
            "run with results of its own needs a copy of the project, whose configuration may lie "
            "anywhere."
        )


def end_of_idle_looks(workflow):
    """Let the scheduler look for jobs to start only when one has ended.

    Under a limit of jobs per second each look asks for another one a second later, and each job
    that ends for one more: after hundreds of jobs Snakemake 9.27 looks hundreds of times a second,
    which takes a fifth of a core from jobs of seconds. Its own limit, 100 a second, is never
    reached here; one that was asked for stays.
    """
    limiter = workflow.scheduler.job_rate_limiter
    if limiter is not None and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def check_last(workflow, given):
    """End with one sentence where a plain run would write over the results of another."""
    try:
        if said := last.check(_given(workflow, given)):
            print(f"Note: {said}", file=sys.stderr)
    except UserError as error:
        sys.exit(f"Error: {error}")


def remember(workflow, given):
    """Leave a note of what a run is given, for commands that look at it later."""
    last.keep(_given(workflow, given))


def _given(workflow, given):
    home = Path(workflow.basedir)
    names = [os.path.relpath(path, home) for path in workflow.overwrite_configfiles]
    files = [os.path.abspath(home / name) if name.startswith("..") else name for name in names]
    return last.Given(files, given["overrides"])


def closed_sets(run):
    """Return what each wildcard may be, so that no path is ambiguous."""
    examined = run.studies.get("robustness")
    names = {
        "dataset": run.datasets,
        "model": run.models,
        "attack": ATTACKS,
        "inputs": ["clean", *ATTACKS],
        "defense": run.defenses,
        "defense_attack": examined.attacks if examined else (),
    }
    closed = {name: "|".join(allowed) or "(?!)" for name, allowed in names.items()}
    return {**closed, "shard": r"\d+of\d+"}


def load_run(config, workflow):
    """Return the checked run, or end with one sentence.

    The jobs import the library of this project, also where the environment holds that of another
    copy: certificates name its code.
    """
    os.environ["PYTHONPATH"] = str(workflow.basedir)
    try:
        check_writable("results")
        # Snakemake has read them, but takes the last of two equal keys, and loses their order.
        files = [f"{workflow.basedir}/config.yaml", *workflow.overwrite_configfiles]
        config = overlays.in_order(config, overlays.read(files))
        run = load.load(config, workflow.basedir, look=workflow.is_main_process)
        if workflow.is_main_process:
            check_own_data(run)
        return run
    except UserError as error:
        sys.exit(f"Error: {error}")


def check_own_data(run):
    """Refuse a run whose own data is not there, and say where that of a registered source is not.

    That one is asked for as the run starts: a run at full scale can be planned without ImageNet.
    """
    for sentence in missing_paths(run, own=True):
        raise UserError(sentence)
    for sentence in missing_paths(run, own=False):
        print(f"Note: {sentence} A run needs it.", file=sys.stderr)


def configuration(workflow):
    """Return which configuration files were given, and what the command line set, for certificates.

    Names are relative to the project, so that they mean the same in another place; a file that lies
    elsewhere is given by its name and what it holds.
    """
    # Rows follow the order of keys; the workflow system has lost that of the first.
    overrides = dict(sorted((workflow.config_settings.config or {}).items()))
    files = ["config.yaml"]
    for path in workflow.overwrite_configfiles:
        name = os.path.relpath(path, workflow.basedir)
        if name.startswith(".."):
            files.append({"name": Path(path).name, "values": overlays.read([path])})
        elif name not in files:
            files.append(name)
    return {"config": files, "overrides": overrides}


def check_ready(run, local):
    """End with one sentence where a run that is about to start has no folder or no card.

    Planning a run needs neither; nor does the head of a cluster need the card.
    """
    try:
        check_paths(run)
        if run.device == "cuda" and local:
            from bandlimit.models.device import is_present

            is_present("cuda")
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
    """Return a function that gives a rule its script, and a digest of the code that it reaches.

    As params, so that Snakemake runs a job again where its code, the lock or the environment is
    another, and nowhere else.
    """
    return partial(_code, Path(home))


def _code(home, name):
    script = f"scripts/{name}.py"
    try:
        return {"script": script, "code": digest(script, home)}
    except UserError as error:
        sys.exit(f"Error: {error}")


def release_stale_lock():
    """Remove the lock that a killed run left behind, so that the same command goes on.

    A run holds a file lock, which ends with its process however that ends; where it can be taken,
    no other run is alive on this machine. What a run on another machine left stays, since not every
    network file system tells machines of each other's locks: Snakemake then names `--unlock`. A
    look at the run (`bandlimit status`) takes no lock: a run that begins beside it would find it
    taken, and not be known to be alive.
    """
    if os.environ.get(LOOKING):
        return None
    locks = Path(".snakemake/locks")
    locks.mkdir(parents=True, exist_ok=True)
    alive = open(".snakemake/alive", "a+")  # noqa: SIM115 (open as long as the process lives)
    for look in itertools.count():
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # A run that lives has locks of Snakemake's; a dry run has none, and ends.
            if look >= 10 and any(locks.iterdir()):
                alive.close()
                return None
            if look == 50:
                print("Waiting for another snakemake in this folder.", file=sys.stderr)
            time.sleep(0.1)
        except OSError:
            # A file system without locks tells nothing.
            alive.close()
            return None
    alive.seek(0)
    last, here = alive.read().split(), machine()
    if last and not set(last) & set(here) and any(locks.iterdir()):
        return alive
    for lock in locks.iterdir():
        lock.unlink()
    alive.truncate(0)
    alive.write(" ".join(here))
    alive.flush()
    return alive


def machine():
    """Return what tells this machine from others: its name, and the start of its kernel.

    The name outlives a restart; containers of one machine differ in it, and share the kernel.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    return [platform.node() or "unnamed", *(boot.read_text().split() if boot.is_file() else [])]


def gpus(run):
    """Return how many cards a job that touches a model takes; asks the driver, not torch."""
    card = Path("/proc/driver/nvidia/gpus").is_dir()
    return int(run.device == "cuda" or run.device == "auto" and card)


def is_light(entry):
    """Return whether the head of a cluster makes a table or a figure itself: no job is worth it.

    Figures, and tables of records, take seconds. Tables that read images or weights, or nothing at
    all, train or search.
    """
    if entry.artifact.gpu:
        return False
    reads = [path for value in entry.reads.values() for path in _listed(value)]
    heavy = any(
        path.startswith("results/datasets/") or path.endswith(".safetensors") for path in reads
    )
    return entry.artifact.kind == "figures" or bool(reads) and not heavy


def _listed(value):
    return [value] if isinstance(value, str) else value


def reported(entry, report):
    """Return the outputs of an entry of a catalogue, with those that the report shows."""
    shown = "png" if entry.artifact.kind == "figures" else "html"
    number = STUDIES.index(entry.study) + 2
    category = f"{number}. {catalogue.study_title(entry.study)}"
    if entry.artifact.group:
        category += f", {entry.artifact.group}"
    flagged = [
        report(
            entry.file(made, shown),
            category=category,
            labels={"artifact": made.where, "shows": made.shows},
            caption=f"../report/{entry.study}/{made.name}.rst",
        )
        for made in entry.made
    ]
    outputs = entry.outputs()
    return {**outputs, shown: flagged if entry.artifact.makes else flagged[0]}


def rules_of_studies(run, home):
    """Return the files of rules of the studies that run, where they make records of their own."""
    names = [f"workflow/rules/{study}.smk" for study in run.studies]
    return [name for name in names if Path(home, name).is_file()]


def own_file(path, home):
    """Return a file of the project, relative, so that a project that was moved re-runs nothing."""
    return os.path.relpath(f"{home}/{path}")


def own_files(names, home):
    """Return files of the project, as `own_file` returns one."""
    return [own_file(name, home) for name in names]


def own_inputs(reads, home):
    """Return the inputs of a job, with files of the project as `own_file` returns them."""

    def place(name):
        # Results, and files of the user, are named as they are.
        return own_file(name, home) if name.startswith("workflow/") else name

    return {
        keyword: place(names) if isinstance(names, str) else [place(name) for name in names]
        for keyword, names in reads.items()
    }


def matching(pattern, home):
    """Return the files of the project that a pattern names, as `own_file` returns one."""
    return own_files((path.relative_to(home) for path in sorted(Path(home).glob(pattern))), home)


def benchmarks(workflow):
    """Return the benchmarks of the rules so far, by the names of rules in certificates."""
    return {
        rule.params.get("rule", rule.name): strip_wildcard_constraints(str(rule.benchmark))
        for rule in workflow.rules
        if rule.benchmark
    }


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
    surroundings = [*matching("envs/*.yaml", home), *matching("profiles/default/config.yaml", home)]
    return [*own_files(names, home), *surroundings]
