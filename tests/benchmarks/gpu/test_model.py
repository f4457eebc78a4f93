"""The time model of the CUDA kernels, on a tile with known clock cycles."""

from __future__ import annotations

import math

import pytest

from benchmarks.gpu.model import figures, fused, published, tables, wide
from benchmarks.gpu.model.figures import ERROR, GAP, GPUS
from benchmarks.gpu.model.fused import limits, milliseconds, step, tile_clocks
from benchmarks.gpu.model.grids import backward_strips, forward_strip

H100 = GPUS["H100"]
# The forward kernel for bf16 and D = 128, in round numbers.
FORWARD = {
    "arch": "sm_90a", "kernel": "forward", "precision": "Bf16", "dim": "128", "warps": "4",
    "keeps_rows": "False", "rows": "128", "columns": "64", "blocks": "2", "tensor": "128",
    "copies": "9", "matrices": "48", "loads": "12", "shuffles": "24", "exponentials": "64",
    "floats": "285", "others": "230",
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
    assert [forward_strip(m, 128, 32) for m in (512, 1024, 1536, 8192)] == [32, 64, 96, 128]


def test_a_strip_costs_its_tiles_and_its_partial_gradient() -> None:
    """N = 1,024: 16 tiles of rows, 8 strips of 4 tiles; one block on a multiprocessor."""
    found = fused.backward(KERNELS["backward"], H100, 2048, 1.0).clocks
    loops = 4 * fused.alone(KERNELS["backward"], H100)
    special = 2 * 2.6 * 128 * 64 / 32 / 4  # two tiles with positives
    partial = 8 * 2048 * 128 * 4 * H100.clock / H100.cache
    rows = 128 * 256 * 132 * H100.clock / H100.cache  # one tile for each multiprocessor
    assert found == pytest.approx(loops + 263 + rows + special + partial)


def test_kept_rows_cost_a_second_latency() -> None:
    m = 2 * 65_536
    kept = {**FORWARD, "keeps_rows": "True"}
    plain, found = (fused.forward(row, H100, m, 0.65).clocks for row in (FORWARD, kept))
    row_tiles = 2048 / 128 * 64 * 65 / 2  # of all strips
    assert found - plain == pytest.approx(row_tiles * 263 / 2 / 132, rel=1e-3)


def test_a_step_has_six_kernels_and_the_gaps_between_them() -> None:
    launches = step(KERNELS, H100, 512, 0.65)
    assert [launch.of for launch in launches] == ["forward"] * 3 + ["backward"] * 3
    assert all(launch.blocks > 0 and launch.clocks > 0 for launch in launches)
    kernels = 1e3 * sum(launch.clocks for launch in launches) / H100.clock
    assert milliseconds(KERNELS, H100, 256, 0.65) == pytest.approx(kernels + 6e-3 * GAP.value)


def test_a_learned_temperature_takes_a_sum_over_all_rows() -> None:
    """Of 16 loads per thread two wait; counting the blocks, two sums over a warp, a function."""
    plain, learned = (
        sum(launch.clocks for launch in step(KERNELS, H100, 2048, 0.65, learned))
        for learned in (False, True)
    )
    assert learned - plain == pytest.approx((2 + 2) * 263 + 2 * 140 + 200)


def test_waiting_costs_time() -> None:
    assert milliseconds(KERNELS, H100, 65_536, 0.5) == pytest.approx(
        2 * milliseconds(KERNELS, H100, 65_536, 1.0), rel=0.05
    )


def test_what_does_not_fit_into_the_cache_comes_from_memory() -> None:
    assert H100.seconds(1e9, H100.cache_size) == 1e9 / 9.7e12
    assert H100.seconds(1e9, H100.cache_size + 1) == 1e9 / 3.35e12
    ratio = fused.traffic(H100, 50e6) / fused.traffic(H100, 40e6)
    assert ratio == pytest.approx(50 / 40 * 9.7 / 3.35)


def test_peaks_are_those_of_the_data_sheets() -> None:
    """Dense bf16 products, in TFLOP/s."""
    for name, tflops in {"A100": 312, "H100": 989.4, "H200": 989.4, "L40S": 362.05}.items():
        assert GPUS[name].peak == pytest.approx(1e12 * tflops, rel=1e-3)


def test_tiles_of_wide_views_are_those_that_the_kernels_visit() -> None:
    assert wide.square(2048) == wide.Tiles(1, 2048**2, 2**24)
    assert wide.square(8192) == wide.Tiles(1 + 2 * 3, 1.25 * 8192**2 / 2, 2**26)
    assert wide.square(32_768) == wide.Tiles(28 + 8 * 3, 34 * 4096**2, 2**26)
    assert wide.rectangle(4097, 100) == wide.Tiles(2, 409_700, 4 * 409_600)


def test_large_wide_views_take_the_time_of_their_products() -> None:
    m, dim = 131_072, 4096
    total = sum(wide.of_passes(H100, wide.square(m), m, dim).values())
    products = 4 * 2 * wide.square(m).pairs * dim / (0.6 * H100.peak)
    kernels = (4 + 4 + 2) * wide.square(m).pairs / H100.memory
    assert total == pytest.approx(1e3 * (products + kernels), rel=0.02)


def test_narrow_wide_views_wait_for_memory() -> None:
    """A product writes a similarity for every pair, however few operations that takes."""
    m = 32_768
    few, fewer = (wide.of_passes(H100, wide.square(m), m, dim)["forward"] for dim in (32, 16))
    assert few == pytest.approx(fewer, rel=0.01)
    assert few > 1e3 * 2 * 4 * wide.square(m).pairs / H100.memory  # written, and read


def test_a_small_wide_batch_takes_its_launches() -> None:
    passes = wide.of_passes(H100, wide.square(64), 64, 512)
    assert passes["forward"] == pytest.approx(5 * 2e-3, rel=0.1)
    assert passes["backward"] == pytest.approx(7 * 2e-3, rel=0.1)


@pytest.mark.parametrize("row", published.PUBLISHED, ids=lambda row: f"{row.what}, D = {row.dim}")
def test_what_differs_from_a_measurement_says_why(row: published.Published) -> None:
    far = max(row.speed(), 1 / row.speed()) > 1 + ERROR.value
    assert bool(row.why) == far
    assert row.source


def test_every_gpu_has_predictions() -> None:
    report = tables.report()
    for name in GPUS:
        assert f"| {name} | 65,536 |" in report
    assert "| H100, H200 | backward | Bf16 | 128 |" in report


def test_every_figure_has_a_source() -> None:
    of_gpus, of_all = (table.splitlines()[2:] for table in figures.table().split("\n\n"))
    assert len(of_gpus) == len(figures.SOURCES) == len(vars(H100)) - 1  # but the architecture
    assert len(of_all) == len(figures.FIGURES)
    for line in of_gpus + of_all:
        meaning, *values, _, source = (cell.strip() for cell in line.split("|")[1:-1])
        assert meaning
        assert source
        assert all(math.isfinite(float(value.replace(",", ""))) for value in values)
