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
from bandlimit.provenance import audit, crate, manifest
from bandlimit.provenance.verdicts import Finding, Verdict

RESULTS = Path("results")

MANIFEST, CRATE = RESULTS / "provenance/manifest.json", RESULTS / "provenance/ro-crate"

LOCK = "requirements.lock"


def check(given: last.Given) -> list[Finding]:
    """Return what keeps the results in the working folder from being those of a run here.

    The tree is held against its manifest, and each file against images, weights, code, lock and
    the settings of the run to come.

    Raises:
        UserError: the results have no manifest, or one of them carries none of our certificates.
    """
    whole = manifest.check(RESULTS, ".")
    whole += crate.check(CRATE, CRATE.with_suffix(".zip"), manifest.read(MANIFEST))
    found = [one for one in whole if one.verdict != Verdict.OK]
    other = code.deviations(LOCK, code.versions())
    found += [Finding(LOCK, Verdict.STALE, text) for text in other]
    auditor = audit.Auditor(
        RESULTS, ".", configfiles=[last.CONFIG, *given.configfiles], overrides=given.overrides
    )
    # It rests on all that a run makes but the crate.
    found += [
        Finding(edge.name, edge.verdict, edge.detail)
        for _, edge in auditor.audit(MANIFEST).findings()
    ]
    return list(dict.fromkeys(found))


def _described() -> bool:
    """Return whether the crate holds the project as it is here; an edited README is no flaw."""
    pairs = ((path.relative_to(CRATE), path) for path in folders.files_in(CRATE))
    return all(
        store.sha256(own) == store.sha256(path)
        for own, path in pairs
        if own.parts[0] != "results" and own.is_file()
    )


def adopt(given: last.Given) -> None:
    """Let Snakemake take the results in the working folder as they are.

    A crate that describes the project as it was elsewhere is left for a run to make again.

    Raises:
        UserError: it does not.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--touch", "--forceall", "--cores", "1"),
            *("--quiet", "all", *given.options()),
            *([] if _described() else ["--", str(MANIFEST)]),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise UserError(f"Snakemake can't take the results over: {' '.join(lines[-3:])}.")
    last.keep(given)
