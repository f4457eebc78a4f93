"""What a run can do without: it warns in one line, and continues."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from simclr_ext.options.errors import UserError


class EvaluationWarning(UserWarning):
    """Something is left out of an evaluation."""


@contextmanager
def left_out(what: str) -> Iterator[None]:
    """Warn that something is left out, and why, if the block that computes it fails.

    Args:
        what: A noun, singular, such as a file's name.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught, left_out("tsne.png"):
        ...     raise UserError("t-SNE takes 3 distinct points, got 1")
        >>> print(caught[0].message)
        tsne.png is left out: t-SNE takes 3 distinct points, got 1
    """
    try:
        yield
    except Exception as error:  # whatever it is, hours of training must not be lost to it
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())
        warnings.warn(f"{what} is left out: {reason}", EvaluationWarning, stacklevel=3)
