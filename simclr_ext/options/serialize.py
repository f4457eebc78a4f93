"""Configurations to plain values and back, for YAML, JSON and checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

from simclr_ext.options.errors import ConfigError

T = TypeVar("T")


def to_plain(config: Any) -> dict[str, Any]:
    """Return a dataclass instance as nested dictionaries, tuples as lists."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(config))
    return plain


def from_plain(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Return the dataclass instance that `to_plain` converted; absent fields get their defaults.

    Args:
        cls: The dataclass; its fields may be dataclasses.
        values: What `to_plain` returned.
        prefix: Prefix of the fields' names in messages, such as "optim.".

    Raises:
        ConfigError: A key is not a field, or a value is not allowed.
    """
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(f"{prefix}{name} is not an option; there are {', '.join(hints)}")
        if dataclasses.is_dataclass(hints[name]):
            value = from_plain(hints[name], value, f"{prefix}{name}.")
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return cls(**arguments)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the options that differ between two plain configurations, with both values as text.

    Args:
        first: What `to_plain` returned, or a part of it.
        second: The same of the other one.

    Example:
        >>> differences({"model": {"width": 8}}, {"model": {"width": 16}, "seed": 0})
        {'model.width': ('8', '16'), 'seed': ('missing', '0')}
    """
    one, other = ({name: repr(value) for name, value in flat(plain)} for plain in (first, second))
    return {
        name: (one.get(name, "missing"), other.get(name, "missing"))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    }


def flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries with their keys, such as "model.width"."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
