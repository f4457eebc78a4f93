"""YAML files that others may have written: plain values alone, and not more than memory holds.

An alias stands for what its anchor names, so a few lines of aliases of aliases can stand for more
than any memory holds.
"""

from __future__ import annotations

from typing import Any

import yaml

_MOST = 1_000_000  # values, and characters, with every alias written out


def read_yaml(text: str) -> Any:
    """Return the plain values in a text.

    Raises:
        yaml.YAMLError: It is not YAML, has tags that stand for objects of Python, or its aliases
            stand for too much.
        ValueError: A value is not what it looks like, such as the date 2020-99-99.

    Example:
        >>> read_yaml("width: 8")
        {'width': 8}
    """
    try:
        values = yaml.safe_load(text)
        check_aliases(values)
    except RecursionError:
        raise yaml.YAMLError("too many brackets in each other") from None
    return values


def check_aliases(values: Any) -> None:
    """Raise YAMLError if values with their aliases written out are too many, or have no end."""
    if _written_out(values, {}) > _MOST:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST:,} values")


def _written_out(value: Any, known: dict[int, int]) -> int:
    """Return how many values there are in one; `known` has those of lists and dictionaries."""
    if isinstance(value, str):
        return 1 + len(value)
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST + 1  # as long as it is counted: it must not hold itself
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(value)]
