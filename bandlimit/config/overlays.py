"""Configuration files, each laid over those before it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

import yaml

from bandlimit.errors import UserError
from bandlimit.files import yamls


def read(
    paths: Sequence[str | os.PathLike[str]], overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the configuration of several files, each laid over those before it.

    Args:
        paths: YAML files.
        overrides: what was set besides, laid over them all.

    Raises:
        UserError: a file can't be read, or is not YAML.
    """
    config: dict[str, Any] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                found = _load(file, os.fspath(path)) or {}
        except yaml.YAMLError as error:
            raise UserError(
                f"The configuration {os.fspath(path)!r} is not YAML: "
                f"{' '.join(str(error).split())}."
            ) from error
        except RecursionError as error:
            raise UserError(
                f"The configuration {os.fspath(path)!r} is nested too deeply."
            ) from error
        except ValueError as error:
            # Such as a date without its month, or bytes that are no text.
            raise UserError(
                f"The configuration {os.fspath(path)!r} must be YAML in UTF-8 with values that "
                f"exist: {error}."
            ) from error
        except OSError as error:
            raise UserError(
                f"The configuration {os.fspath(path)!r} can't be read: {error.strerror}; the "
                "command runs in the folder of the workflow."
            ) from error
        if not isinstance(found, Mapping):
            raise UserError(
                f"The configuration {os.fspath(path)!r} must be a mapping of keys to values, got "
                f"{type(found).__name__}."
            )
        lay_over(config, found)
    lay_over(config, overrides or {})
    return config


def lay_over(config: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """Lay an overlay on a configuration: mappings merge, everything else is replaced."""
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            lay_over(config[key], value)
        else:
            config[key] = dict(value) if isinstance(value, Mapping) else value


def _check_circles(value: Any, path: str, above: tuple[int, ...] = ()) -> None:
    """Refuse a value that holds itself, by an alias within its own anchor."""
    if not isinstance(value, dict | list):
        return
    if id(value) in above:
        raise UserError(
            f"In the configuration {path!r} an alias '*' stands inside what its own anchor '&' "
            "names; it is allowed only after it."
        )
    for part in value.values() if isinstance(value, dict) else value:
        _check_circles(part, path, (*above, id(value)))


def _load(file: IO[str], path: str) -> Any:
    try:
        found = yaml.load(file, yamls.Loader)  # noqa: S506 (it is a safe loader)
        _check_circles(found, path)
        return found
    except yamls.Twice as error:
        raise UserError(
            f"In the configuration {path!r} {error}; each key is allowed once in its mapping."
        ) from error


def in_order(config: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with its keys in the order of another; what that lacks comes last.

    Snakemake puts the keys of overlays first, and rows of tables follow the order of keys.

    >>> in_order({"b": 1, "c": {"y": 2, "x": 3}, "a": 4}, {"a": 0, "b": 0, "c": {"x": 0}})
    {'a': 4, 'b': 1, 'c': {'x': 3, 'y': 2}}
    """
    keys = [*(key for key in like if key in config), *(key for key in config if key not in like)]
    return {
        key: in_order(config[key], like[key])
        if isinstance(config[key], Mapping) and isinstance(like.get(key), Mapping)
        else config[key]
        for key in keys
    }
