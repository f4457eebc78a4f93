"""The time model of the CUDA kernels, on a tile with known clock cycles."""

from __future__ import annotations

import pytest

from benchmarks.gpu import model
from benchmarks.gpu.model import GPUS, limits, milliseconds, tile_clocks

H100 = GPUS["H100"]
# The forward kernel for bf16 and D = 128, in round numbers.
FORWARD = {
    "arch": "sm_90a", "kernel": "forward", "precision": "Bf16", "dim": "128", "warps": "4",
    "rows": "128", "columns": "64", "blocks": "2", "tensor": "128", "copies": "9",
    "matrices": "48", "loads": "12", "shuffles": "24", "exponentials": "64", "floats": "285",
    "others": "230",
}  # fmt: skip
KERNELS = {"forward": FORWARD, "backward": {**FORWARD, "kernel": "backward", "tensor": "256"}}


def test_clocks_of_each_unit() -> None:
    units = limits(FORWARD, H100)
    assert units["tensor"] == pytest.approx(4 * 128 / 0.64)
    assert units["exponentials"] == 4 * 64 * 2
    assert units["shared"] == 4 * (4 * (48 + 9) + 12 + 24)
    assert units["issue"] == 128 + 9 + 48 + 12 + 24 + 64 + 285 + 230
    assert tile_clocks(FORWARD, H100) == units["shared"]


def test_time_grows_with_the_pairs() -> None:
    ratio = milliseconds(KERNELS, H100, 131_072, 1.0) / milliseconds(KERNELS, H100, 65_536, 1.0)
    assert ratio == pytest.approx(4, rel=0.05)


def test_large_batches_take_the_clocks_of_their_tiles() -> None:
    m = 2 * 131_072
    tiles = m / 128 * m / 64
    clocks = tiles / 2 * tile_clocks(FORWARD, H100) + tiles * tile_clocks(KERNELS["backward"], H100)
    least = 1e3 * clocks / H100.multiprocessors / H100.clock
    assert milliseconds(KERNELS, H100, m // 2, 1.0) == pytest.approx(least, rel=0.05)


def test_small_batches_wait_for_one_block() -> None:
    """A block for each 128 rows leaves most of the card idle: the time of one, and no more."""
    one = model.backward_clocks(KERNELS["backward"], H100, 128, 1.0)
    assert model.backward_clocks(KERNELS["backward"], H100, 8192, 1.0) < 64 * one
    ends = (2 + 32 * 4) * 400
    assert one == pytest.approx(2 * model.alone(KERNELS["backward"], H100) + ends)


def test_waiting_costs_time() -> None:
    assert milliseconds(KERNELS, H100, 65_536, 0.5) == pytest.approx(
        2 * milliseconds(KERNELS, H100, 65_536, 1.0), rel=0.05
    )
