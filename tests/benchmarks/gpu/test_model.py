"""The time model of the CUDA kernels, on a tile with known clock cycles."""

from __future__ import annotations

import math

import pytest

from benchmarks.gpu import figures, model
from benchmarks.gpu.figures import GAP, GPUS
from benchmarks.gpu.grids import backward_strips, forward_strip
from benchmarks.gpu.model import limits, milliseconds, step, tile_clocks

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


def test_everyday_batches_fill_the_card() -> None:
    """The table of tests/cuda_host/test_launches.cpp: blocks of the backward pass."""
    for n, blocks in ((256, 32), (512, 128), (1024, 128), (2048, 256), (4096, 256), (16384, 256),
                      (65536, 1024)):  # fmt: skip
        launches = {launch.kernel: launch for launch in step(KERNELS, H100, 2 * n, 0.65)}
        assert launches["backward"].blocks == blocks
    assert backward_strips(2 * 65536, 128, 64)[0] == 1
    assert [forward_strip(m, 128, 64) for m in (512, 1024, 1025, 8192, 8193)] == [
        64, 64, 128, 128, 256,
    ]  # fmt: skip


def test_a_strip_costs_its_tiles_and_its_partial_gradient() -> None:
    """N = 1,024: 16 tiles of rows, 8 strips of 4 tiles; one block on a multiprocessor."""
    found = model.backward(KERNELS["backward"], H100, 2048, 1.0).clocks
    loops = 4 * model.alone(KERNELS["backward"], H100)
    special = 2 * 2.6 * 128 * 64 / 32 / 4  # two tiles with positives
    partial = 8 * 2048 * 128 * 4 * H100.clock / H100.cache
    assert found == pytest.approx(loops + 263 + special + partial)


def test_a_step_has_six_kernels_and_the_gaps_between_them() -> None:
    launches = step(KERNELS, H100, 512, 0.65)
    assert [launch.of for launch in launches] == ["forward"] * 3 + ["backward"] * 3
    assert all(launch.blocks > 0 and launch.clocks > 0 for launch in launches)
    kernels = 1e3 * sum(launch.clocks for launch in launches) / H100.clock
    assert milliseconds(KERNELS, H100, 256, 0.65) == pytest.approx(kernels + 6e-3 * GAP.value)


def test_waiting_costs_time() -> None:
    assert milliseconds(KERNELS, H100, 65_536, 0.5) == pytest.approx(
        2 * milliseconds(KERNELS, H100, 65_536, 1.0), rel=0.05
    )


def test_every_figure_has_a_source() -> None:
    lines = figures.table().splitlines()[2:]
    assert len(lines) == len(figures.FIGURES) + len(figures.SOURCES) - 1
    for line in lines:
        meaning, value, _, source = (cell.strip() for cell in line.split("|")[1:-1])
        assert meaning
        assert source
        assert math.isfinite(float(value.split(",")[-1]))
