"""NT-Xent's losses and gradients at once, for small batches: those of the two passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.backends import ops

# One tile, and four ragged blocks; D beyond a panel of 256, and rows of more than 4 KiB.
SHAPES = [(1, 1), (9, 5), (64, 128), (65, 7), (101, 300), (140, 1030), (256, 31)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _registered() -> None:
    ops.register()


def both_ways(z0: Tensor, z1: Tensor, temperature: float, normalize: bool) -> list[list[Tensor]]:
    """Return losses, gradients of the rows and of the temperature: of two passes, and at once."""
    own = torch.ops.simclr_ext
    t = torch.tensor(temperature, dtype=torch.float64)
    loss, *saved = own.nt_xent_forward(z0, z1, t, normalize, 1e-6)
    grads, needed = torch.full_like(loss, 0.25), [True] * 3
    passes = own.nt_xent_backward(grads, loss, *saved, z0.shape[1], t, 1e-6, needed)
    value, grad_z, grad_t = own.nt_xent_value_and_grad(z0, z1, t, normalize, 1e-6, 0.25, needed)
    assert grad_z.dtype == loss.dtype
    return [[loss, *passes], [value, grad_z.to(passes[0].dtype), grad_t]]


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.005, 0.3], ids=["a shift each", "one shift"])
@pytest.mark.parametrize("normalize", [True, False], ids=["cosine", "dot product"])
def test_the_same_bits(
    n: int, d: int, dtype: torch.dtype, temperature: float, normalize: bool
) -> None:
    passes, at_once = both_ways(*torch.randn(2, n, d).to(dtype), temperature, normalize)
    for value, expected in zip(at_once, passes, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_the_same_bits_by_blas(n: int, d: int) -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        passes, at_once = both_ways(*torch.randn(2, n, d), 0.1, True)
    for value, expected in zip(at_once, passes, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("which", [[0], [1], [2], [1, 2]], ids=str)
def test_some_of_the_gradients_that_were_computed(which: list[int]) -> None:
    inputs = [torch.randn(20, 3, requires_grad=True) for _ in range(2)]
    inputs.append(torch.tensor(0.2, requires_grad=True))
    expected = torch.autograd.grad(nt_xent_loss(*inputs), inputs)
    wanted = [inputs[place] for place in which]
    for place, value in zip(which, torch.autograd.grad(nt_xent_loss(*inputs), wanted), strict=True):
        assert torch.equal(value, expected[place])


def test_one_tensor_as_both_views_and_views_that_are_no_leaves() -> None:
    x = torch.randn(30, 4, dtype=torch.float64, requires_grad=True)

    def gradient(backend: str) -> Tensor:
        same = nt_xent_loss(x, x, 0.2, backend=backend)
        other = nt_xent_loss(2 * x, x.sin(), 0.3, backend=backend)
        return torch.autograd.grad(3 * (same + other), x)[0]

    torch.testing.assert_close(gradient("fused"), gradient("reference"))
