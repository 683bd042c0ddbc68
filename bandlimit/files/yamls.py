"""YAML that people write: read safely, and refused where a key is written twice."""

from __future__ import annotations

from typing import Any

import yaml

SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""A loader that runs nothing; the one in C, where there is one, is ten times as fast."""


class Loader(SAFE):  # type: ignore[valid-type, misc]
    """Reads plain YAML, and refuses a key that is written twice: the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node.

        Raises:
            Twice: a key is written twice.
        """
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            # '<<' merges other mappings in, and may be overwritten.
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                raise Twice(
                    f"the key {key.value!r} is written in line {seen[key.value]} and in line {line}"
                )
            seen[key.value] = line
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


class Twice(Exception):
    """A key that is written twice."""
