"""The tiled backend's own ways; its accuracy is tested with that of the fused kernels."""

from __future__ import annotations

import pytest
import torch

from simclr_ext import tiled
from tests.accuracy import check_accuracy, loss_and_grads


@pytest.mark.parametrize("side", [1, 7, 64, 10_000])
@pytest.mark.parametrize("temperature", [0.01, 0.5], ids=["a shift each", "no shift"])
def test_any_side_of_the_tiles(
    side: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled, "_CPU_SIDE", side)
    z0 = torch.randn(65, 9)
    check_accuracy((z0, z0 + 0.5 * torch.randn(65, 9)), temperature, backend="tiled")


@pytest.mark.parametrize(("n", "side"), [(1, 1), (7, 3), (64, 64), (65, 64), (1000, 48)])
def test_blocks_cover_the_rows_once_and_respect_the_views(n: int, side: int) -> None:
    blocks = tiled._blocks(n, side)
    rows = [row for block in blocks for row in range(block.start, block.stop)]
    assert rows == list(range(2 * n))
    sizes = [block.stop - block.start for block in blocks]
    assert sizes[: len(sizes) // 2] == sizes[len(sizes) // 2 :]
    assert max(sizes) <= side
    assert max(sizes) - min(sizes) <= 1


def test_default_tiles_of_several_blocks() -> None:
    n = 2 * tiled._CPU_SIDE + 3
    check_accuracy((torch.randn(n, 5), torch.randn(n, 5)), 0.5, backend="tiled")


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_same_bits_from_run_to_run(temperature: float) -> None:
    views = (torch.randn(1500, 20), torch.randn(1500, 20))
    first = loss_and_grads(views, temperature, backend="tiled")
    for value, other in zip(
        first, loss_and_grads(views, temperature, backend="tiled"), strict=True
    ):
        assert torch.equal(value, other)


def test_tiles_are_larger_where_there_are_more_processors() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert tiled.tile_side(10, cpu) == tiled.tile_side(10, cuda) == 10
    assert tiled.tile_side(10**6, cpu) < tiled.tile_side(10**6, cuda)


def test_sums_are_in_double_where_the_device_has_it() -> None:
    assert tiled.sum_dtype(torch.device("cuda")) == torch.float64
    assert tiled.sum_dtype(torch.device("mps")) == torch.float32


def test_memory_is_one_tile_of_the_forward_pass_and_two_of_the_backward() -> None:
    similarities = tiled._Similarities(torch.randn(600, 4), 0.5, normalized=True)
    tile = next(similarities.tiles())
    x = similarities.compute(tile)
    assert similarities.compute(tile).data_ptr() == x.data_ptr()
    scratch = similarities.scratch(x)
    assert scratch.data_ptr() != x.data_ptr()
    assert similarities.scratch(x).data_ptr() == scratch.data_ptr()
