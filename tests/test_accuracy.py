"""The loss against the float64 reference, over shapes, dtypes, temperatures and strides."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.backends.tiled import schedule
from tests.accuracy import check_accuracy, loss_and_grads

# One tile up to N = 64; four blocks from 65; eight of up to 512 rows from 1024; ten at 2300.
SHAPES = [
    (1, 1), (1, 7), (2, 1), (3, 33), (7, 16), (16, 5), (64, 128), (65, 127), (97, 128), (98, 3),
    (127, 17), (300, 64), (513, 31), (1100, 20), (2300, 9),
]  # fmt: skip
TEMPERATURES = [0.005, 0.01, 0.024, 0.0251, 0.05, 0.1, 0.5, 1.0, 10.0, 1000.0, 1e37]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(params=["fused", "tiled"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a backend; tiles are small, so that these few rows make many and ragged ones."""
    monkeypatch.setattr(schedule, "_CPU_SIDE", 130)
    return str(request.param)


def related_views(n: int, d: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return views as similar as those of a half-trained encoder, rows of many lengths."""
    z0 = torch.randn(n, d)
    z1 = z0 + 0.8 * torch.randn(n, d)
    return (z0 * torch.rand(n, 1).add(0.2)).to(dtype), z1.to(dtype)


@pytest.mark.parametrize(("n", "d"), SHAPES, ids=lambda size: str(size))
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_shapes_and_dtypes(n: int, d: int, dtype: torch.dtype, backend: str) -> None:
    check_accuracy(related_views(n, d, dtype), 0.5, backend=backend)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("n", [30, 300], ids=["one tile", "four blocks"])
def test_temperatures(n: int, dtype: torch.dtype, temperature: float, backend: str) -> None:
    check_accuracy(related_views(n, 24, dtype), temperature, backend=backend)


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0, 30.0], ids=lambda scale: f"norm {scale}")
@pytest.mark.parametrize("n", [5, 130], ids=["one tile", "four blocks"])
def test_dot_products(n: int, scale: float, backend: str) -> None:
    z0, z1 = related_views(n, 12)
    check_accuracy((scale * z0, scale * z1), 0.5, normalize=False, backend=backend)


def test_shared_shift_of_dot_products_fits_rows_shorter_than_the_longest(backend: str) -> None:
    z0, z1 = related_views(40, 6)
    z0[3] *= 6
    check_accuracy((z0, z1), 1.0, normalize=False, backend=backend)


@pytest.mark.parametrize(
    "strided",
    [
        lambda z: z.t().contiguous().t(),
        lambda z: torch.stack([z, z], dim=2)[:, :, 0],
        lambda z: torch.cat([z, z])[::2],
        lambda z: z[:1].expand(len(z), -1),
        lambda z: torch.cat([z.new_zeros(1), z.flatten()])[1:].view_as(z),
    ],
    ids=["transposed", "inner stride 2", "outer stride 2", "expanded", "misaligned"],
)
def test_strides(strided: object, backend: str) -> None:
    z0, z1 = related_views(120, 10)
    z0 = strided(z0)
    ours = loss_and_grads((z0, z1), 0.3, backend=backend)
    same = loss_and_grads((z0.contiguous(), z1), 0.3, backend=backend)
    assert all(torch.equal(a, b) for a, b in zip(ours, same, strict=True))
    check_accuracy((z0, z1), 0.3, backend=backend)


@pytest.mark.parametrize("temperature", [0.005, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("n", [1, 2, 40, 150])
class TestDegenerateRows:
    def test_equal(self, n: int, temperature: float, backend: str) -> None:
        z = torch.full((n, 5), 0.3)
        loss, *grads = loss_and_grads((z, z), temperature, backend=backend)
        torch.testing.assert_close(loss, torch.full((2 * n,), math.log(2 * n - 1)))
        assert all(g.abs().max() < 1e-5 / temperature**2 for g in grads)

    def test_views_opposite(self, n: int, temperature: float, backend: str) -> None:
        # s_ip = -1, and 1 to the 2N - 2 negatives, n - 1 of them of the other view: at -1 too.
        z = torch.full((n, 5), 0.3)
        loss = nt_xent_loss(z, -z, temperature, reduction="none", backend=backend)
        same, other = n - 1, n
        gap = 2 / temperature
        expected = math.log(other) if same == 0 else math.log(same + other * math.exp(-gap)) + gap
        torch.testing.assert_close(loss, torch.full((2 * n,), expected))
        check_accuracy((z, -z), temperature, backend=backend)

    def test_one_row_opposite_to_all_others(self, n: int, temperature: float, backend: str) -> None:
        # Its similarities are all -1, in a tile whose others are 1.
        z0 = torch.ones(n, 4)
        z1 = z0.clone()
        z1[-1] *= -1
        loss = nt_xent_loss(z0, z1, temperature, reduction="none", backend=backend)
        torch.testing.assert_close(loss[-1].item(), math.log(2 * n - 1), rtol=1e-5, atol=1e-6)
        check_accuracy((z0, z1), temperature, backend=backend)

    def test_all_similarities_at_the_ends(self, n: int, temperature: float, backend: str) -> None:
        signs = torch.randint(0, 2, (2, n, 1)).mul(2).sub(1).float()
        check_accuracy((signs[0].expand(n, 3), signs[1].expand(n, 3)), temperature, backend=backend)

    def test_zero_rows(self, n: int, temperature: float, backend: str) -> None:
        # As in F.normalize: they stay zero, and their gradient is that of a division by eps.
        z0, z1 = related_views(n, 6)
        z0[0] = 0
        z1[-1] = 0
        check_accuracy((z0, z1), temperature, eps=1e-3, backend=backend)

    def test_rows_shorter_than_eps(self, n: int, temperature: float, backend: str) -> None:
        z0, z1 = related_views(n, 6)
        z0[0] *= 1e-4 / z0[0].norm()
        check_accuracy((z0, z1), temperature, eps=1e-3, backend=backend)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("eps", [2.0**-10, 3e-7])
def test_a_row_as_long_as_eps_is_divided_by_a_constant(
    eps: float, dtype: torch.dtype, backend: str
) -> None:
    eps = torch.tensor(eps, dtype=dtype).item()
    z0, z1 = related_views(9, 4, dtype)
    z0[:3] = torch.eye(4, dtype=dtype)[0]
    z0[:3] *= torch.tensor([[1 - 1e-5], [1], [1 + 1e-5]], dtype=dtype) * eps
    z0.requires_grad_()
    nt_xent_loss(z0, z1, eps=eps, backend=backend).backward()
    assert z0.grad is not None
    along = z0.grad[:3, 0] * eps
    assert (along[:2].abs() > 1e-3).all()
    assert along[2].abs() < 1e-6


def test_zero_rows_have_finite_gradients_in_float16(backend: str) -> None:
    z0 = torch.zeros(4, 3, dtype=torch.float16, requires_grad=True)
    nt_xent_loss(z0, torch.randn(4, 3, dtype=torch.float16), backend=backend).backward()
    assert z0.grad is not None
    assert z0.grad.isfinite().all()


@pytest.mark.parametrize("length", [1e-30, 1e25], ids=["tiny", "huge"])
def test_rows_of_extreme_length(length: float, backend: str) -> None:
    z0, z1 = related_views(20, 4)
    loss = nt_xent_loss(z0 * length, z1, eps=1e-35, backend=backend)
    torch.testing.assert_close(loss, nt_xent_loss(z0, z1, backend=backend))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("normalize", [True, False], ids=["cosine", "dot product"])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("n", [3, 120])
def test_non_finite_rows_spread_as_in_the_reference(
    n: int, temperature: float, normalize: bool, bad: float, backend: str
) -> None:
    z0, z1 = related_views(n, 4)
    z0[n // 2, 1] = bad
    options = {"normalize": normalize}
    ours = loss_and_grads((z0, z1), temperature, backend=backend, **options)
    reference = loss_and_grads((z0, z1), temperature, backend="reference", **options)
    for value, other in zip(ours, reference, strict=True):
        assert torch.equal(value.isfinite(), other.isfinite())


def test_a_nan_of_any_payload_stays_a_nan(backend: str) -> None:
    z0, z1 = related_views(4, 4)
    z0.view(torch.int32)[0, 0] = 0x7FC00001
    assert nt_xent_loss(z0, z1, backend=backend).isnan()


def test_more_than_2_to_the_31_pairs() -> None:
    # Two clusters at right angles: every row has 2K - 2 negatives at 1 and 2K at 0.
    n, temperature = 23_200, 0.5
    assert (2 * n) ** 2 > 2**31
    z = torch.eye(2).repeat_interleave(n // 2, dim=0).requires_grad_()
    loss = nt_xent_loss(z, z.detach(), temperature, reduction="none")
    expected = math.log((n - 1) * math.exp(1 / temperature) + n) - 1 / temperature
    torch.testing.assert_close(loss, torch.full((2 * n,), expected))
    (grad,) = torch.autograd.grad(loss.mean(), z)
    # Along the other axis: W_ij = 2 P_ij / (2N T) for each of the N rows of the other cluster.
    weight = math.exp(-expected - 1 / temperature) / temperature
    expected_grad = torch.tensor([[0.0, weight], [weight, 0.0]]).repeat_interleave(n // 2, dim=0)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-9)
