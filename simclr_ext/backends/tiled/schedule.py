"""The tiles of a problem and their order, which fixes the order of summation and so the bits."""

from __future__ import annotations

import itertools

import torch

from simclr_ext.backends.tiled.problem import Problem, Tile

# Maximum rows and columns of a tile: small enough for a CPU's caches, large enough to fill a GPU.
_CPU_SIDE = 1024
_DEVICE_SIDE = 4096


def schedule(problem: Problem, device: torch.device) -> list[Tile]:
    """Return the tiles of a problem."""
    side = _CPU_SIDE if device.type == "cpu" else _DEVICE_SIDE
    if problem.symmetric:
        return triangle(problem.rows, side)
    return grid(problem.row_range, problem.column_range, side, turned=not problem.same)


def triangle(rows: int, side: int) -> list[Tile]:
    """Return the tiles on and above the diagonal of S = Z Z^T."""
    # An even number of blocks: no block of NT-Xent then lies in both views. And two blocks take
    # less work than one, which has no symmetry to use.
    count = min(2 * -(-rows // (2 * side)), rows)
    blocks = _blocks(slice(0, rows), count)
    return [
        Tile(block, other, turned=a < b)
        for a, block in enumerate(blocks)
        for b, other in enumerate(blocks[a:], start=a)
    ]


def grid(rows: slice, columns: slice, side: int, *, turned: bool) -> list[Tile]:
    """Return the tiles of a rectangular S."""
    sides = [_blocks(part, -(-(part.stop - part.start) // side)) for part in (rows, columns)]
    return [Tile(block, other, turned) for block, other in itertools.product(*sides)]


def _blocks(part: slice, count: int) -> list[slice]:
    """Split a range into blocks of nearly equal size."""
    size = part.stop - part.start
    edges = [part.start + b * size // count for b in range(count + 1)]
    return [slice(begin, end) for begin, end in itertools.pairwise(edges)]
