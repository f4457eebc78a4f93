"""Checks of configuration values; every message names the field, its value and what is allowed."""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from simclr_ext.options.errors import ConfigError, DeviceError

_VALUES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}
_ITEMS: dict[Any, str] = {int: "integers", float: "numbers", str: "strings"}
_SMALLEST_SCALE = 2.0**-126  # the smallest normal number of float32


def check(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise ConfigError, "`name` must be `allowed`, got `value`", unless `ok`."""
    if not ok:
        raise ConfigError(f"{name} must be {allowed}, got {value!r}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise ConfigError unless least <= value < infinity."""
    check(least <= value < math.inf, name, value, f"at least {least:g}")


def check_null_or_at_least(name: str, value: float | None, least: float) -> None:
    """Raise ConfigError unless the value is None or least <= value < infinity."""
    ok = value is None or least <= value < math.inf
    check(ok, name, value, f"null or at least {least:g}")


def check_positive(name: str, value: float) -> None:
    """Raise ConfigError unless 0 < value < infinity."""
    check(0 < value < math.inf, name, value, "positive and finite")


def check_scale(name: str, value: float) -> None:
    """Raise ConfigError unless the losses take it as a temperature."""
    check_positive(name, value)
    allowed = f"from {_SMALLEST_SCALE:.5e} to {1 / _SMALLEST_SCALE:.5e}"
    check(_SMALLEST_SCALE <= value <= 1 / _SMALLEST_SCALE, name, value, allowed)


def check_probability(name: str, value: float) -> None:
    """Raise ConfigError unless 0 <= value <= 1."""
    check(0 <= value <= 1, name, value, "a probability in [0, 1]")


def check_range(name: str, value: Sequence[float], limit: float = math.inf) -> None:
    """Raise ConfigError unless `value` is two numbers 0 < low <= high <= limit."""
    ok = len(value) == 2 and 0 < value[0] <= value[1] <= limit and math.isfinite(value[1])
    bound = "" if limit == math.inf else f" <= {limit:g}"
    check(ok, name, value, f"two numbers 0 < low <= high{bound}")


def check_color(name: str, value: Sequence[int]) -> None:
    """Raise ConfigError unless `value` is red, green and blue in 0..255."""
    ok = len(value) == 3 and all(0 <= part <= 255 for part in value)
    check(ok, name, value, "three integers in 0..255")


def check_device(device: str) -> None:
    """Raise DeviceError unless PyTorch can use the device here."""
    import torch  # here: options are checked without it

    try:
        torch.device(device)
    except RuntimeError:  # PyTorch's own message lists device types that hardly anyone has
        allowed = "one of PyTorch's devices, such as cpu, cuda, cuda:1 or mps"
        raise DeviceError(f"device must be {allowed}, got {device!r}") from None
    try:
        torch.zeros((), device=device).item()  # "meta" has no values
    # PyTorch raises an AssertionError if it was built without CUDA.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error


def check_types(config: Any, prefix: str = "") -> None:
    """Raise ConfigError unless every field of a dataclass has a value of its annotated type.

    The command line and YAML files have their types checked on the way in; this is for Python.

    Args:
        config: The dataclass instance.
        prefix: Prefix of the fields' names in messages, such as "optim.".
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        check(_matches(value, hint), f"{prefix}{field.name}", value, describe(hint))


def _matches(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_matches(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_matches, value, arguments))
    if hint in (int, float):  # bool is a subclass of int; an int is accepted for a float
        numbers = (int, float) if hint is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, hint)


def describe(hint: Any, sequence: str = "tuple") -> str:
    """Return what a type allows, after "must be".

    Args:
        hint: The type of an option.
        sequence: What a tuple is called; in a file and on the command line it is a list.

    Example:
        >>> describe(int | None), describe(tuple[float, float], "list")
        ('an integer or null', 'a list of 2 numbers')
    """
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe(argument, sequence) for argument in arguments)
    if get_origin(hint) is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        items = _ITEMS.get(arguments[0]) or f"values, each {describe(arguments[0])}"
        return f"a {sequence} of {count}{items}"
    return _VALUES.get(hint) or f"a {hint.__name__}"
