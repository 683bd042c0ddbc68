"""Checks of a configuration: by its schema, and value by value, each told in one sentence.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from bandlimit.errors import UserError, suggest
from bandlimit.files import yamls

LONGEST = 200
"""Characters of a value that a sentence shows."""

KINDS = {
    "object": "a mapping of keys to values",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}
"""The types of JSON schema, in words."""


def epsilon(value: str | float, place: str) -> float:
    """Return an l_inf bound above 0 and up to 1, given as a number or as a fraction, '8/255'.

    Raises:
        UserError: it is not a number, or is 0 or less, or above 1.
    """
    text = str(value)
    # Of a number such as 1e999999999 a fraction would take hours.
    fits = len(text) <= 40 and not re.search(r"[eE][+-]?\d{4}", text)
    try:
        above, slash, below = text.partition("/")
        number = Fraction(above) / Fraction(below if slash else "1") if fits else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        number = Fraction(-1)
    if not 0 < number <= 1:
        hint = f" (did you mean '{value}/255'?)" if 1 < number <= 255 and not slash else ""
        raise UserError(
            f"An epsilon in {place} is the l_inf bound in pixels of [0, 1]: a number above 0 and "
            f"up to 1, or a fraction such as '8/255', got {_told(value)}{hint}."
        )
    return float(number)


def epsilons(values: Iterable[str | float], place: str) -> list[float]:
    """Return several l_inf bounds in [0, 1], in the order given.

    Raises:
        UserError: one is not a number or lies outside [0, 1], or two are the same, however written.
    """
    found: dict[float, str | float] = {}
    for value in values:
        number = epsilon(value, place)
        if number in found:
            raise UserError(
                f"{place} names the same epsilon twice, as {found[number]!r} and as {value!r}; "
                "each is allowed once."
            )
        found[number] = value
    return list(found)


def read_schema(path: Path) -> dict[str, Any]:
    """Return a JSON schema written in YAML."""
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), yamls.SAFE)  # noqa: S506
    return loaded


def check(data: Any, schema: Mapping[str, Any], where: str) -> Any:
    """Return `data` with the schema's defaults filled in.

    A number such as 1e-3, which YAML 1.1 takes for text, is read where the schema wants a number.

    Raises:
        UserError: the data doesn't match; the sentence names the first place that doesn't.
    """
    _check_keys(data, where)
    data = _with_defaults(_with_numbers(data, schema, schema), schema, schema)
    _check_finite(data, where)
    validator = _Validator(schema)
    errors = sorted(validator.iter_errors(data), key=lambda error: list(map(str, error.path)))
    for error in errors:
        raise UserError(_sentence(error, where))
    return data


# JSON has one kind of number, so that 5.0 would pass for a whole one; Python's range refuses it.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def _check_keys(data: Any, where: str, path: str = "") -> None:
    """Refuse keys that are no text, which a schema can't speak of."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if not isinstance(key, str):
                raise UserError(
                    f"A key of {_place(path, where)} must be text that begins with a letter, got "
                    f"{_told(key)}, which YAML takes for {_kind(key)}."
                )
            _check_keys(value, where, f"{path}.{key}")
    elif isinstance(data, list):
        for i, value in enumerate(data):
            _check_keys(value, where, f"{path}[{i}]")


def _check_finite(data: Any, where: str, path: str = "") -> None:
    """Refuse .nan and .inf, which a schema's bounds let pass."""
    if isinstance(data, float) and not math.isfinite(data):
        raise UserError(f"{path.lstrip('.')!r} in {where} must be a finite number, got {data}.")
    if isinstance(data, Mapping):
        for key, value in data.items():
            _check_finite(value, where, f"{path}.{key}")
    elif isinstance(data, list):
        for i, value in enumerate(data):
            _check_finite(value, where, f"{path}[{i}]")


def _sentence(error: jsonschema.ValidationError, where: str) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.path).lstrip(".")
    place = _place(path, where)
    if error.validator == "additionalProperties":
        allowed = error.schema["properties"]
        unknown = sorted(set(error.instance) - set(allowed))[0]
        return f"Unknown key {unknown!r} in {place}; {suggest(unknown, allowed)}."
    if "propertyNames" in error.schema_path and error.validator == "pattern":
        allowed = error.schema.get("$comment", f"what matches {error.validator_value}")
        return f"{place} has the name {error.instance!r}; allowed: {allowed}."
    if error.validator == "dependentRequired":
        key, missing = next(
            (key, name)
            for key, names in error.validator_value.items()
            for name in names
            if key in error.instance and name not in error.instance
        )
        return f"The key {missing!r} is missing in {place}, where {key!r} asks for it."
    if error.validator == "enum":
        allowed = suggest(error.instance, error.validator_value)
        return f"{place} has no choice {_told(error.instance)}; {allowed}."
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        meaning = error.schema["properties"][missing].get("description")
        return f"The key {missing!r} is missing in {place}{f': {meaning}' if meaning else '.'}"
    rules = {
        "type": lambda v: f"must be {_either([v] if isinstance(v, str) else v)}",
        "minimum": lambda v: f"must be at least {v}",
        "exclusiveMinimum": lambda v: f"must be greater than {v}",
        "maximum": lambda v: f"must be at most {v}",
        "exclusiveMaximum": lambda v: f"must be less than {v}",
        "minProperties": lambda v: f"must name at least {v}",
        "minItems": lambda v: f"must have at least {v} {'entry' if v == 1 else 'entries'}",
        "maxItems": lambda v: f"must have at most {v} entries",
        "minLength": lambda _: "must not be empty",
        "uniqueItems": lambda v: "must not name anything twice",
        # A schema says beside a pattern what it means.
        "pattern": lambda v: f"must be {error.schema.get('$comment', f'text that matches {v}')}",
    }.get(str(error.validator))
    rule = rules(error.validator_value) if rules else f"is not valid ({error.message})"
    return f"{place} {rule}, got {_told(error.instance)}."


def _place(path: str, where: str) -> str:
    return f"{path.lstrip('.')!r} in {where}" if path else where


def _kind(value: Any) -> str:
    """Return in words what YAML made of a value."""
    if isinstance(value, bool):
        return KINDS["boolean"]
    if isinstance(value, int | float):
        return KINDS["number"]
    return "nothing" if value is None else f"a {type(value).__name__}"


def _told(value: Any) -> str:
    """Return a value as a sentence shows it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.date):
        value = value.isoformat()
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _either(types: Iterable[str]) -> str:
    return " or ".join(KINDS[name] for name in types)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        return {**root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], **schema}
    return schema


def _with_numbers(data: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return data in which text that is a number is one, where the schema wants a number.

    What it leaves open, such as the keywords of one's own code, may be one.
    """
    schema = _resolved(schema, root)
    if isinstance(data, str):
        free = [] if "enum" in schema else ["number"]
        wanted = schema.get("type", free)
        return _number(data, [wanted] if isinstance(wanted, str) else wanted)
    if isinstance(data, list) and "items" in schema:
        return [_with_numbers(item, schema["items"], root) for item in data]
    if not isinstance(data, Mapping):
        return data
    parts = schema.get("properties", {})
    more = schema.get("additionalProperties")
    others = more if isinstance(more, Mapping) else {}
    return {key: _with_numbers(value, parts.get(key, others), root) for key, value in data.items()}


SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}")


def _number(text: str, wanted: Collection[str]) -> Any:
    """Return the number that a text such as '1e-3' is, or the text where none is wanted."""
    if "string" in wanted or not SCIENTIFIC.fullmatch(text):
        return text
    number = float(text)
    if "integer" in wanted and number.is_integer():
        return int(number)
    return number if "number" in wanted else text


def _with_defaults(data: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    schema = _resolved(schema, root)
    if isinstance(data, list) and "items" in schema:
        return [_with_defaults(item, schema["items"], root) for item in data]
    if not isinstance(data, Mapping):
        return data
    filled = dict(data)
    for key, part in schema.get("properties", {}).items():
        part = _resolved(part, root)
        if key not in filled and "default" in part:
            filled[key] = part["default"]
        if key in filled:
            filled[key] = _with_defaults(filled[key], part, root)
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        for key in set(filled) - set(schema.get("properties", {})):
            filled[key] = _with_defaults(filled[key], extra, root)
    return filled


def member(name: str, allowed: Mapping[str, Any], kind: str, place: str) -> None:
    """Check that a name is one of those allowed.

    Raises:
        UserError: it is not; the sentence names the nearest.
    """
    if name not in allowed:
        raise UserError(
            f"{place} names {name!r}, which is not among the {kind}; {suggest(name, allowed)}."
        )


def not_reserved(names: Iterable[str], reserved: Collection[str], place: str) -> None:
    """Check that names given by a user are not those with a meaning of their own.

    Raises:
        UserError: one is.
    """
    for name in names:
        if name in reserved:
            raise UserError(
                f"{place} has the name {name!r}, which the tables use for something else; any name "
                f"but {', '.join(map(repr, reserved))} is allowed."
            )
