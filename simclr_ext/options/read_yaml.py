"""YAML files that others may have written: plain values alone, and not more than memory holds.

An alias stands for what its anchor names, so a few lines of aliases of aliases can stand for more
than any memory holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

_MOST = 1_000_000  # values, and characters, with every alias written out


def read_yaml(text: str) -> Any:
    """Return the plain values in a text.

    Raises:
        yaml.YAMLError: It is not YAML, has tags that stand for objects of Python, or is refused by
            `carefully`.

    Example:
        >>> read_yaml("width: 8")
        {'width': 8}
    """
    return carefully(yaml.safe_load, text)


class RefusedYAMLError(yaml.YAMLError):  # type: ignore[misc]
    """It may be YAML, and is refused."""


def carefully(load: Callable[[str], Any], text: str) -> Any:
    """Return what a function of PyYAML loads from a text.

    Raises:
        RefusedYAMLError: It has too many brackets in each other, its aliases stand for too much, or
            a value is not what its form or its tag says, such as the date 2020-99-99.
    """
    try:
        values = load(text)
        if _written_out(values, {}) > _MOST:  # or without end
            raise RefusedYAMLError(f"its aliases stand for more than {_MOST:,} values")
    except RecursionError:
        raise RefusedYAMLError("it has too many brackets in each other") from None
    except (AttributeError, LookupError, ValueError) as error:  # of `!!int` and nothing, 2020-99-99
        raise RefusedYAMLError("a value is not what its form or its tag says") from error
    return values


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
