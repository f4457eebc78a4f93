"""The answers to wrong options and values: in the words of `checks`, with what may be meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from simclr_ext.options.checks import describe

# Names that other programs have for the same.
_SYNONYMS = {
    "amp": "precision",
    "backbone": "encoder",
    "gpu": "device",
    "lr": "learning_rate",
    "wd": "weight_decay",
}
# What jsonargparse says; of errors in each other the last is about the value itself.
_ABOUT_VALUE = re.compile(r'.*Parser key "(?P<name>[^"]+)":(?P<reason>.*)', re.DOTALL)
_GOT = re.compile(r"(?:Got|Given) value: ?(.*)", re.DOTALL)
_NO_VALUE = re.compile(r"argument (\S+): expected one argument")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is probably meant by a wrong one; None: none is close.

    The name may lack its group, or its end:

        >>> nearest("warmup", ["epochs", "optim.warmup_epochs"])
        'optim.warmup_epochs'
    """
    names = list(known)
    whole = [(_plain(name), name) for name in names]
    whole += [(_plain(name.rpartition(".")[2]), name) for name in names]
    typed = _plain(name)
    begun = [pair for pair in whole if typed and pair[0].startswith(typed)]
    if begun:  # width is model.width, not model.width_multiplier
        return min(begun, key=lambda pair: pair[0] != typed)[1]
    names_of = dict(reversed(whole))
    synonym = _SYNONYMS.get(typed.rpartition(".")[2], "")
    close = [synonym] if synonym in names_of else difflib.get_close_matches(typed, names_of, n=1)
    return names_of[close[0]] if close else None


def not_among(kind: str, value: str, names: Iterable[str]) -> str:
    """Return the answer to a value that is not one of the names.

    >>> not_among("command", "trian", ["train", "eval"])
    'trian is not a command; did you mean train?'
    """
    names = list(names)
    like = nearest(value, names)
    advice = f"there are {', '.join(names)}" if like is None else f"did you mean {like}?"
    return f"{value or repr(value)} is not a {kind}; {advice}"


def reworded(message: str, hints: Mapping[str, Any]) -> str:
    """Return jsonargparse's message about a command's options in the words of `check_types`.

    Args:
        message: The message; one that is not known is returned as it is.
        hints: The types of the options.
    """
    if found := _NO_VALUE.fullmatch(message):
        return f"{found[1]} needs a value"
    found = _ABOUT_VALUE.fullmatch(message)
    if found is None:
        return message
    name, reason = found["name"], found["reason"].strip()
    got = _GOT.search(reason)
    if got is None or name not in hints:
        return f"{name}: {reason}"
    value, hint = got[1].strip() or "''", hints[name]
    like = nearest(value, _choices(hint))
    advice = "" if like is None else f"; did you mean {like}?"
    return f"{name} must be {describe(hint, 'list')}, got {value}{advice}"


def _choices(hint: Any) -> list[str]:
    """Return the names that a type allows, also as the items of a tuple."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for part in get_args(hint) for choice in _choices(part)]


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")
