"""Which rows are compared with which columns; both, and their tiles, are ranges of rows of z."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """R rows compared with C columns, S = X Y^T; x_i = z[row0 + i] and y_j = z[column0 + j].

    Args:
        rows: R.
        columns: C.
        row0: The first row, in z.
        column0: The first column, in z.
        same: Whether the columns are all rows of z, so that each row is among its own columns.
    """

    rows: int
    columns: int
    row0: int
    column0: int
    same: bool

    @classmethod
    def of(cls, size: int, rows: int, owned: Sequence[int] = ()) -> Problem:
        """Return the problem for a z with ``size`` rows, of which the first ``rows`` are X.

        Args:
            size: R + C, or R if the columns are the rows themselves.
            rows: R.
            owned: Begin and end of the rows of a rank; (): all.
        """
        if size > rows:
            return cls(rows, size - rows, 0, rows, same=False)
        begin, end = owned or (0, rows)
        return cls(end - begin, size, begin, 0, same=True)

    @property
    def row_range(self) -> slice:
        """The rows in z."""
        return slice(self.row0, self.row0 + self.rows)

    @property
    def column_range(self) -> slice:
        """The columns in z."""
        return slice(self.column0, self.column0 + self.columns)

    @property
    def symmetric(self) -> bool:
        """Whether S is symmetric: all rows are compared with each other."""
        return self.same and self.rows == self.columns

    @property
    def results(self) -> slice:
        """The rows of z that have a loss: rows and columns, or only the rows if they are both."""
        return self.row_range if self.same else slice(0, self.rows + self.columns)

    def wanted(self, needs_grad: Sequence[bool]) -> slice:
        """Return the rows of z whose gradient is computed.

        Args:
            needs_grad: Whether the rows, the columns and the temperature need one.
        """
        needs_rows, needs_columns, needs_temperature = needs_grad
        needs_rows = needs_rows or needs_temperature
        rows = self.row_range
        if self.same:
            return rows if needs_rows else slice(rows.start, rows.start)
        begin = rows.start if needs_rows else rows.stop
        return slice(begin, self.column_range.stop if needs_columns else rows.stop)


@dataclass(frozen=True)
class Tile:
    """A part of S.

    Args:
        rows: Range of rows of z.
        columns: Range of rows of z.
        turned: Whether its transpose counts too: the tile also adds to the sums of its columns.
    """

    rows: slice
    columns: slice
    turned: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
