"""The positive pairs of labels, listed a range at a time: O(rows) memory for any number."""

from __future__ import annotations

import torch
from torch import Tensor


class PositivePairs:
    """All pairs of a row and a column with equal labels, ordered by row, then by column.

    Args:
        label: Numbers from 0 of the rows and then of the columns, [R + C]; [R] if the columns are
            the rows.
        rows: R.
        same: Whether row i and column i are the same, so that (i, i) is no pair.

    Attributes:
        count: Number of pairs.
        same: As above.
    """

    def __init__(self, label: Tensor, rows: int, same: bool) -> None:
        label = label.long()
        self.same = same
        self._label = label[:rows]
        columns = label[rows:] if len(label) > rows else label
        sizes = columns.bincount(minlength=len(label))
        self._order = columns.argsort(stable=True)  # columns by label
        self._begin = sizes.cumsum(0) - sizes  # of each label in that order
        equal = sizes[self._label]
        self._partners = equal - 1 if same else equal
        self._ends = self._partners.cumsum(0)
        self._place = torch.empty_like(self._order)  # of a column in that order
        self._place[self._order] = torch.arange(len(columns), device=label.device)
        # The host waits for the device here, once.
        self.count, matches = (int(value) for value in (self._partners.sum(), equal.sum()))
        self._different = rows * len(columns) - matches

    def none_to_compare(self) -> bool:
        """Return whether there are no pairs, or none of different labels, or one of each."""
        fewest, most = sorted((self.count, self._different))
        return fewest == 0 or most <= 1

    def between(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Return the rows and the columns of the pairs with these numbers."""
        number = torch.arange(begin, end, device=self._ends.device)
        row = torch.searchsorted(self._ends, number, right=True)
        first = self._begin[self._label[row]]
        place = first + number - (self._ends[row] - self._partners[row])
        if self.same:  # leave out the row itself
            place = place + (place >= self._place[row])
        return row, self._order[place]
