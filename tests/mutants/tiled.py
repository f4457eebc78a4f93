"""Faults of the tiled backend; pytest finds them."""

from __future__ import annotations

from pathlib import Path

from tests.mutants import cpu
from tests.mutants.fault import Fault

TESTS = ["tests/test_tiled.py", "tests/test_contrastive.py"]

FAULTS = [
    Fault(
        "tiled: shift of the positives negated",
        "simclr_ext/backends/tiled/pairing.py",
        "offset = tile.rows.start + shift - tile.columns.start",
        "offset = tile.rows.start - shift - tile.columns.start",
    ),
    Fault(
        "tiled: positives of the columns counted as those of the rows",
        "simclr_ext/backends/tiled/pairing.py",
        "self.transposed()._count(columns, rows, device)",
        "self._count(columns, rows, device)",
    ),
    Fault(
        "tiled: label of the next column compared",
        "simclr_ext/backends/tiled/pairing.py",
        "self.labels[tile.rows, None] == self.labels[tile.columns]",
        "self.labels[tile.rows, None] == self.labels[tile.columns].roll(1)",
    ),
    Fault(
        "tiled: labels compared as floats",
        "simclr_ext/backends/tiled/pairing.py",
        "self.labels[tile.rows, None] == self.labels[tile.columns]",
        "self.labels[tile.rows, None].float() == self.labels[tile.columns].float()",
    ),
    Fault(
        "tiled: a row is a positive of itself",
        "simclr_ext/backends/tiled/pairing.py",
        "same.diagonal(diagonal.offset).fill_(False)",
        "pass",
    ),
    Fault(
        "tiled: a row meets itself",
        "simclr_ext/backends/tiled/pairing.py",
        "for diagonal in _diagonals(tile, [0]):\n                x.diagonal(diagonal.offset)",
        "for diagonal in _diagonals(tile, []):\n                x.diagonal(diagonal.offset)",
    ),
    Fault(
        "tiled: the last tile of a grid missed",
        "simclr_ext/backends/tiled/schedule.py",
        "for block, other in itertools.product(*sides)]",
        "for block, other in list(itertools.product(*sides))[: max(1, len(sides[0]) - 1)]]",
    ),
    Fault(
        "tiled: a tile of the triangle added to its rows alone",
        "simclr_ext/backends/tiled/schedule.py",
        "turned=a < b)",
        "turned=a + 1 < b)",
    ),
    Fault(
        "tiled: gradient of the columns by W in the place of its transpose",
        "simclr_ext/backends/tiled/pair_weights.py",
        "rows.add_weighted(w.T, tile.rows,",
        "rows.add_weighted(w if w.shape[0] == w.shape[1] else w.T, tile.rows,",
    ),
    Fault(
        "tiled: loss of rows without a positive kept",
        "simclr_ext/backends/tiled/row_sums.py",
        "loss = torch.where(positives > 0, loss, 0)",
        "loss = loss + 0",
    ),
    Fault(
        "tiled: gradient of rows without a positive kept",
        "simclr_ext/backends/tiled/pair_weights.py",
        "weight = torch.where(positives > 0, grad_loss.to(lse.dtype) * tiles.inv_t, 0)",
        "weight = grad_loss.to(lse.dtype) * tiles.inv_t",
    ),
    Fault(
        "tiled: positives not divided by their number",
        "simclr_ext/backends/tiled/pair_weights.py",
        "-weight / positives.clamp(min=1),",
        "-weight,",
    ),
    Fault(
        "tiled: P - 1 by subtraction for confident rows",
        "simclr_ext/backends/tiled/pair_weights.py",
        "single = (positives == 1) & summed",
        "single = (positives < 0) & summed",
    ),
    Fault(
        "tiled: gradient of the temperature halved for rectangles",
        "simclr_ext/backends/tiled/operators.py",
        "times = 2 if problem.same else 1",
        "times = 2",
    ),
    Fault(
        "tiled: gradient of a zero row is 0",
        "simclr_ext/backends/tiled/rows.py",
        "along = torch.where(inv_norm == 1 / eps, 0, radial)",
        "along = torch.where(inv_norm == 1 / eps, 0, radial); grad_z[inv_norm == 1 / eps] = 0",
    ),
    Fault(
        "tiled: owned rows start at the first",
        "simclr_ext/backends/tiled/problem.py",
        "return cls(end - begin, size, begin, 0, same=True)",
        "return cls(end - begin, size, 0, 0, same=True)",
    ),
]


def first_failure(folder: Path) -> str | None:
    """Return the first test that fails in a copy of the project, or that it hung, or None."""
    return cpu.first_failure(folder, TESTS, "tiled")
