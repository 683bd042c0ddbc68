"""Copies of the project, for benchmarks that make runs of their own."""

import shutil
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
PARTS = (
    *("CITATION.cff", "LICENSE", "README.md", "Snakefile", "bandlimit", "benchmarks", "config"),
    *("config.yaml", "data", "docs", "envs", "profiles", "requirements.lock", "scripts"),
    "workflow",
)


def copy(folder: Path) -> None:
    """Copy what a run needs into a folder that is there."""
    for name in PARTS:
        place = HOME / name
        if place.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(place, folder / name, ignore=ignored)
        else:
            shutil.copy2(place, folder / name)
