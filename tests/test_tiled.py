"""The internals of the tiled backend; its accuracy is tested with that of the fused kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from simclr_ext._torch_compat import HAS_PRODUCTS_OF_HALVES
from simclr_ext.backends import fake, loader, selection, tiled
from simclr_ext.backends.tiled import rows, schedule, tiles
from simclr_ext.backends.tiled.pairing import Pairing
from simclr_ext.backends.tiled.problem import Problem, Tile
from simclr_ext.backends.tiled.rows import Rows
from simclr_ext.backends.tiled.tiles import Tiles
from tests.accuracy import check_accuracy, loss_and_grads
from tests.contrastive import Case, backward_args, check, forward, operators
from tests.torch_faults import needs_fakes_of_cuda


@pytest.mark.parametrize("side", [1, 7, 64, 10_000])
@pytest.mark.parametrize("temperature", [0.01, 0.5], ids=["a shift each", "no shift"])
def test_any_side_of_the_tiles(
    side: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_CPU_SIDE", side)
    z0 = torch.randn(65, 9)
    check_accuracy((z0, z0 + 0.5 * torch.randn(65, 9)), temperature, backend="tiled")


@pytest.mark.parametrize(("n", "side"), [(1, 1), (7, 3), (64, 64), (65, 64), (1000, 48)])
def test_blocks_cover_the_rows_once_and_respect_the_views(n: int, side: int) -> None:
    blocks = [tile.rows for tile in schedule.triangle(2 * n, side) if not tile.turned]
    rows = [row for block in blocks for row in range(block.start, block.stop)]
    assert rows == list(range(2 * n))
    assert n in [block.start for block in blocks]
    sizes = [block.stop - block.start for block in blocks]
    assert max(sizes) <= side
    assert max(sizes) - min(sizes) <= 1


def pairs_of(tile: Tile) -> list[tuple[int, int]]:
    """Return the pairs of rows that a tile gives sums or gradients of the first one for."""
    rows, columns = (range(part.start, part.stop) for part in (tile.rows, tile.columns))
    pairs = [(i, j) for i in rows for j in columns]
    return pairs + [(j, i) for i, j in pairs] if tile.turned else pairs


@pytest.mark.parametrize("side", [1, 3, 4, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 12, 13])
def test_the_triangle_visits_each_pair_once(size: int, side: int) -> None:
    pairs = [pair for tile in schedule.triangle(size, side) for pair in pairs_of(tile)]
    assert sorted(pairs) == [(i, j) for i in range(size) for j in range(size)]


@pytest.mark.parametrize("side", [1, 3, 4, 100])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (9, 1), (4, 8), (7, 11)])
def test_the_grid_visits_each_pair_once(rows: int, columns: int, side: int) -> None:
    ranges = slice(0, rows), slice(rows, rows + columns)
    for turned in (False, True):
        pairs = [p for tile in schedule.grid(*ranges, side, turned=turned) for p in pairs_of(tile)]
        expected = [(i, j) for i in range(rows) for j in range(rows, rows + columns)]
        expected += [(j, i) for i, j in expected] if turned else []
        assert sorted(pairs) == sorted(expected)


def test_default_tiles_of_several_blocks() -> None:
    n = 2 * schedule._CPU_SIDE + 3
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
    problem = Problem.of(10**5, 10**5)
    tiles = {name: schedule.schedule(problem, torch.device(name)) for name in ("cpu", "cuda")}
    assert tiles["cpu"][0].shape < tiles["cuda"][0].shape


def test_sums_are_in_double_where_the_device_has_it() -> None:
    assert rows.sum_dtype(torch.device("cuda")) == torch.float64
    assert rows.sum_dtype(torch.device("mps")) == torch.float32


def test_memory_is_one_tile_of_the_forward_pass_and_two_of_the_backward() -> None:
    problem = Problem.of(600, 600)
    pairing = Pairing.of(problem, (300, -300))
    tiles = Tiles(Rows(torch.randn(600, 4), None), problem, pairing, 0.5, normalized=True)
    x = tiles.compute(tiles.schedule[0])
    assert tiles.compute(tiles.schedule[1]).data_ptr() == x.data_ptr()
    scratch = tiles.scratch(x)
    assert scratch.data_ptr() != x.data_ptr()
    assert tiles.scratch(x).data_ptr() == scratch.data_ptr()


@pytest.fixture
def products_of_halves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the CPU multiply half views as CUDA does: exactly, with sums and results in float32."""
    if not HAS_PRODUCTS_OF_HALVES:
        pytest.skip("this torch multiplies halves into halves alone")

    def mm(left: Tensor, right: Tensor, dtype: torch.dtype, *, out: Tensor) -> Tensor:
        assert left.dtype == right.dtype != dtype == out.dtype
        return out.copy_(left.to(dtype) @ right.to(dtype))

    def addmm(
        bias: Tensor,
        left: Tensor,
        right: Tensor,
        dtype: torch.dtype,
        *,
        beta: float = 1,
        alpha: float = 1,
        out: Tensor,
    ) -> Tensor:
        assert left.dtype == right.dtype != dtype == out.dtype
        return out.copy_(beta * bias + alpha * (left.to(dtype) @ right.to(dtype)))

    library = torch.library.Library("aten", "IMPL")
    library.impl("mm.dtype_out", mm, "CPU")
    library.impl("addmm.dtype_out", addmm, "CPU")
    monkeypatch.setattr(rows, "multiplies_halves", lambda z: z.dtype in rows.HALF_TYPES)
    yield
    library._destroy()


@pytest.mark.usefixtures("products_of_halves")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("temperature", "normalize"), [(0.01, True), (0.5, True), (2.0, False)], ids=str
)
@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 1), (40, 300), (301, 20)], ids=str)
def test_halves_are_multiplied_as_halves(
    n: int,
    d: int,
    temperature: float,
    normalize: bool,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "_CPU_SIDE", 130)
    z0 = torch.randn(n, d) * torch.rand(n, 1).add(0.2)
    views = z0.to(dtype), (z0 + 0.5 * torch.randn(n, d)).to(dtype)
    check_accuracy(views, temperature, backend="tiled", weights=dtype, normalize=normalize)


@pytest.mark.usefixtures("products_of_halves")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("form", ["shift", "labels", "labels of the rows themselves"])
def test_halves_of_rows_and_columns_are_multiplied_as_halves(
    form: str, temperature: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_CPU_SIDE", 64)
    x = torch.randn(70, 20).to(dtype)
    y = None if form.endswith("themselves") else (x + torch.randn(70, 20)).to(dtype)
    size = len(x) if y is None else len(x) + len(y)
    label = None if form == "shift" else torch.randint(0, 20, (size,), dtype=torch.int32)
    case = Case(x, y, temperature, (0,) if form == "shift" else (), label)
    check(case, "tiled", weights=dtype)


@pytest.mark.usefixtures("products_of_halves")
def test_the_weight_of_a_row_without_a_positive_does_not_scale_those_of_others() -> None:
    x = torch.randn(9, 8).half()
    case = Case(x, x[:4], shifts=(0,))
    weights, *args = backward_args(case, forward(case, "tiled"))
    ignored = weights.clone()
    ignored[4:9] = 1e9
    grads = [operators("tiled")[1](values, *args) for values in (weights, ignored)]
    for value, other in zip(*grads, strict=True):
        assert torch.equal(value, other)


@pytest.mark.usefixtures("products_of_halves")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_halves_of_any_length_and_of_large_batches_keep_their_gradients(dtype: torch.dtype) -> None:
    z0, z1 = torch.randn(2, 50, 8).to(dtype)
    loss, *grads = loss_and_grads((z0, z1), 0.5, backend="tiled")
    # Lengths are exact powers of two: the rows are the same, and the gradients shrink as they grow.
    longer, *its_grads = loss_and_grads((8 * z0, z1), 0.5, backend="tiled")
    assert torch.equal(loss, longer)
    torch.testing.assert_close(grads[0], 8 * its_grads[0], rtol=1e-2, atol=1e-5)
    # float16 ends at 6e-8: the weights of a mean over many rows are smaller.
    ops = torch.ops.simclr_ext
    t = torch.tensor(0.5, dtype=torch.float64)
    saved = ops.nt_xent_tiled_forward(z0, z1, t, True, 1e-6)
    assert saved[2].dtype == dtype
    tiny, one = (
        ops.nt_xent_tiled_backward(torch.full((100,), g), *saved, 8, t, 1e-6, [True, True, True])
        for g in (2.0**-30, 1.0)
    )
    assert torch.equal(tiny[1] * 2.0**30, one[1])


@needs_fakes_of_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_the_products_are_operations_that_torch_has_for_cuda(dtype: torch.dtype) -> None:
    t = torch.tensor(0.5, dtype=torch.float64)
    with FakeTensorMode(allow_non_fake_inputs=True):
        z0, z1 = (torch.empty(9, 4, dtype=dtype, device="cuda") for _ in range(2))
        saved = tiled.nt_xent_forward(z0, z1, t, True, 1e-6)
        grads = tiled.nt_xent_backward(saved[0], *saved, 4, t, 1e-6, [True, True, True])
        traced = torch.ops.simclr_ext.nt_xent_tiled_forward(z0, z1, t, True, 1e-6)
    kinds = [[(x.dtype, x.shape, x.device) for x in outputs] for outputs in (saved, traced)]
    assert kinds[0] == kinds[1]
    assert (grads[0].dtype, grads[0].shape) == (saved[2].dtype, (18, 4))


@needs_fakes_of_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("form", ["shift", "labels", "ignored", "positives", "owned"])
def test_rows_and_columns_take_operations_that_torch_has_for_cuda(
    form: str, dtype: torch.dtype
) -> None:
    t = torch.tensor(0.01, dtype=torch.float64)  # a shift for each row
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, y = (torch.empty(rows, 5, dtype=dtype, device="cuda") for rows in (9, 7))
        label = torch.zeros(16, dtype=torch.int32, device="cuda")
        pairing, columns = {
            "shift": (([0], None, None, "all", []), y),
            "labels": (([], label, None, "all", []), y),
            "ignored": (([0], None, label, "negatives", []), y),
            "positives": (([3, -3], None, None, "positives", []), None),
            "owned": (([3, -3], None, None, "all", [2, 6]), None),
        }[form]
        forward = (x, columns, t, True, 1e-6, *pairing)
        saved = tiled.contrastive_forward(*forward)
        all_rows = len(saved[2])
        losses = [torch.empty(all_rows, dtype=v.dtype, device="cuda") for v in saved[:2]]
        grads = (losses[0], losses[1])  # of the losses and of the lse
        backward = (*grads, *losses, *saved[2:], 5, 9, t, 1e-6, *pairing, [True] * 3)
        pairs = [
            (saved, fake.contrastive_tiled_forward(*forward)),
            (tiled.contrastive_backward(*backward), fake.contrastive_backward(*backward)),
        ]
        compiled = fake.contrastive_forward(*forward)
    for values, stand_ins in pairs:
        kinds = [[(v.dtype, v.shape, v.device) for v in outputs] for outputs in (values, stand_ins)]
        assert kinds[0] == kinds[1]
    # The kernels' rows are padded to 16 bytes.
    assert compiled[2].shape == (all_rows, 8)
    assert compiled[2].dtype == dtype
    assert [v.shape for v in compiled[:2]] == [v.shape for v in saved[:2]]


def test_the_compiled_kernels_have_the_same_limits() -> None:
    compiled = loader.load()
    assert compiled.cuda_max_dim == selection._CUDA_MAX_DIM
    assert compiled.safe_ranges == list(tiles._SAFE_SPAN.values())
