"""Results that were copied in, taken for those of a run here.

Snakemake goes by the times of files and by notes of its own, which copies of results lack, and
would make all again. Told to touch the files, it takes them as they are, whatever made them; so all
of them are audited first, with the configuration of the run to come.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bandlimit.errors import UserError
from bandlimit.files import folders, store
from bandlimit.plan import code, last
from bandlimit.provenance import audit, crate, manifest, origin
from bandlimit.provenance.verdicts import Finding, Verdict

RESULTS = Path("results")

LOCK = "requirements.lock"


def check(given: last.Given) -> list[Finding]:
    """Return what keeps the results in the working folder from being those of a run here.

    The tree is held against its manifest, and each file against images, weights, code, lock and
    the settings of the run to come.

    Raises:
        UserError: the results have no manifest, or one of them carries none of our certificates.
    """
    listed = RESULTS / "provenance/manifest.json"
    whole = manifest.check(RESULTS, ".")
    folder = listed.with_name("ro-crate")
    whole += crate.check(folder, listed.with_name("ro-crate.zip"), manifest.read(listed))
    found = [one for one in whole if one.verdict != Verdict.OK]
    other = code.deviations(LOCK, code.versions())
    found += [Finding(LOCK, Verdict.STALE, text) for text in other]
    auditor = audit.Auditor(
        RESULTS, ".", configfiles=[last.CONFIG, *given.configfiles], overrides=given.overrides
    )
    # It rests on all that a run makes but the crate, which holds copies of what it describes.
    found += [
        Finding(edge.name, edge.verdict, edge.detail)
        for _, edge in auditor.audit(listed).findings()
    ]
    for path in folders.files_in(folder):
        own = path.relative_to(folder)
        if own.parts[0] != "results" and own.is_file() and _differ(own, path):
            found.append(Finding(own.as_posix(), Verdict.STALE, "the crate holds another"))
    return list(dict.fromkeys(found))


def _differ(one: Path, other: Path) -> bool:
    if one.suffix == ".py":
        return origin.meaning(one) != origin.meaning(other)
    return store.sha256(one) != store.sha256(other)


def adopt(given: last.Given) -> None:
    """Let Snakemake take the results in the working folder as they are.

    Raises:
        UserError: it does not.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--touch", "--forceall", "--cores", "1"),
            *("--quiet", "all"),
            *given.options(),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise UserError(f"Snakemake can't take the results over: {' '.join(lines[-3:])}.")
    last.keep(given)
