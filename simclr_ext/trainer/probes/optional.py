"""Optional parts of a run: if one fails, the run warns in one line and continues."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from simclr_ext.options.errors import UserError


class EvaluationWarning(UserWarning):
    """A part of an evaluation is left out."""


@contextmanager
def left_out(what: str) -> Iterator[None]:
    """Warn that something is left out, with the reason, if the block that computes it fails.

    Args:
        what: A noun, singular, such as a file's name.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught, left_out("tsne.png"):
        ...     raise UserError("t-SNE needs 3 distinct points, got 1")
        >>> print(caught[0].message)
        tsne.png is left out: t-SNE needs 3 distinct points, got 1
    """
    try:
        yield
    except Exception as error:  # no error of an optional part may cost hours of training
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())
        warnings.warn(f"{what} is left out: {reason}", EvaluationWarning, stacklevel=3)
