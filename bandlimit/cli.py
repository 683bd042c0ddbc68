"""The command `bandlimit`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bandlimit import settings
from bandlimit.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 after a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="bandlimit", description="The frequency view of adversarial examples, recomputed."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="say what a run takes: images, forward passes, bytes")
    plan.add_argument(
        "--configfile", action="append", default=[], help="overlay on config.yaml, may be repeated"
    )
    options = parser.parse_args(arguments)
    try:
        print(_plan(["config.yaml", *options.configfile]))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _plan(paths: Sequence[str]) -> str:
    config: dict[str, Any] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                _merge(config, yaml.safe_load(file) or {})
        except yaml.YAMLError as error:
            raise UserError(
                f"The configuration {path!r} is not YAML: {' '.join(str(error).split())}."
            ) from error
        except OSError as error:
            raise UserError(
                f"The configuration {path!r} can't be read: {error.strerror}; the command runs "
                "in the folder of the workflow."
            ) from error
    from bandlimit import cost  # imports torch, which an error above should not wait for

    return cost.report(settings.load(config, "."))


def _merge(config: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """Lay an overlay on a configuration: mappings merge, everything else is replaced."""
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        else:
            config[key] = dict(value) if isinstance(value, Mapping) else value
