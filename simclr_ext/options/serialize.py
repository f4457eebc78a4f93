"""Configurations to plain values and back, for YAML, JSON and checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from simclr_ext.options.errors import ConfigError

T = TypeVar("T")


def to_plain(config: Any) -> dict[str, Any]:
    """Return a dataclass instance as nested dictionaries, tuples as lists."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(config))
    return plain


def from_plain(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Return the dataclass instance that `to_plain` wrote; absent fields have their defaults.

    Args:
        cls: The dataclass; its fields may be dataclasses.
        values: What `to_plain` returned.
        prefix: What precedes the fields' names in messages, such as "optim.".

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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
