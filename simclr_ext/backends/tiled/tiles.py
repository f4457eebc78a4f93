"""The tiles of S, one at a time, as exponents of 2."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_ext.backends.tiled.pairing import Pairing
from simclr_ext.backends.tiled.problem import Problem, Tile
from simclr_ext.backends.tiled.rows import Rows
from simclr_ext.backends.tiled.schedule import schedule

LOG2_E = math.log2(math.e)
# Up to this span of exponents, 2^x_ij and its sums neither overflow nor underflow without a shift.
_SAFE_SPAN = {torch.float32: 115.0, torch.float64: 1000.0}


class Tiles:
    """The matrix S = X Y^T of a problem; one tile x of it exists at a time.

    If 2^x neither overflows nor underflows, a tile has base-2 logits, x = s log2(e) / T. Otherwise
    x = s, and a shift is subtracted before scaling: near the largest term the difference is exact,
    that of scaled values is not.
    """

    def __init__(
        self, rows: Rows, problem: Problem, pairing: Pairing, temperature: float, normalized: bool
    ) -> None:
        self.rows = rows
        self.problem = problem
        self.pairing = pairing
        self.inv_t = 1 / temperature
        # Rounded to the tiles' dtype, so that computations in double agree with the tiles.
        scale = float(torch.tensor(LOG2_E / temperature, dtype=rows.dtype, device="cpu"))
        ranges = problem.row_range, problem.column_range
        largest = 1.0 if normalized else rows.largest_product(*ranges)
        self.unshifted = 2 * scale * largest <= _SAFE_SPAN[rows.dtype]  # False for NaN
        # The base-2 logit of x is x exponent_scale.
        self._product_scale, self.exponent_scale = (scale, 1.0) if self.unshifted else (1.0, scale)
        self.schedule = schedule(problem, rows.stored.device)
        self._tile = self.new_empty(max(math.prod(tile.shape) for tile in self.schedule))
        self._scratch: Tensor | None = None

    def new_empty(self, *size: int) -> Tensor:
        """Return a tensor of the dtype of the tiles, on their device."""
        return self.rows.stored.new_empty(size, dtype=self.rows.dtype)

    def compute(self, tile: Tile) -> Tensor:
        """Return a tile, valid until the next call; -inf where a pair does not count."""
        x = self._tile[: math.prod(tile.shape)].view(tile.shape)
        self.rows.multiply(tile.rows, tile.columns, self._product_scale, out=x)
        self.pairing.mask(x, tile)
        return x

    def scratch(self, x: Tensor) -> Tensor:
        """Return a buffer of the shape of the tile ``x``."""
        if self._scratch is None:
            self._scratch = torch.empty_like(self._tile)
        return self._scratch[: x.numel()].view_as(x)
