"""bfloat16 rows: multiplied as such where the processor can, else widened; exact either way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss, siglip_loss
from tests.accuracy import check_accuracy, loss_and_grads

# One tile, ragged blocks, blocks whose diagonal is cut into unequal halves, D beyond one product of
# the micro-kernel; odd D, which it does not take.
SHAPES = [(1, 2), (3, 34), (65, 126), (97, 256), (150, 62), (100, 1030), (777, 40), (300, 33)]


def views(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Return related views, rows of many lengths."""
    z0 = torch.randn(n, d)
    z1 = z0 + 0.8 * torch.randn(n, d)
    return (z0 * torch.rand(n, 1).add(0.2)).bfloat16(), z1.bfloat16()


@pytest.mark.parametrize("halves", [True, False], ids=["halves", "floats"])
@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("temperature", [0.5, 0.01])
def test_either_is_exact(n: int, d: int, temperature: float, halves: bool) -> None:
    with torch.backends.mkldnn.flags(enabled=halves):
        check_accuracy(views(n, d), temperature, backend="fused")


@pytest.mark.parametrize("normalize", [True, False])
def test_losses_are_as_exact_as_those_of_floats(normalize: bool) -> None:
    """Only the gradient's weights are rounded: products of halves are exact in float."""
    pair = views(200, 50)
    options = {"normalize": normalize, "reduction": "none", "backend": "fused"}
    found = nt_xent_loss(*pair, 0.5, **options)
    wide = nt_xent_loss(*(z.float() for z in pair), 0.5, **options)
    exact = nt_xent_loss(*(z.double() for z in pair), 0.5, **(options | {"backend": "reference"}))
    errors = [(value.double() - exact).norm() for value in (found, wide)]
    assert errors[0] <= 2 * errors[1] + 1e-6


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30], ids=lambda scale: f"norm {scale}")
def test_lengths_of_rows_do_not_matter(scale: float) -> None:
    z0, z1 = views(70, 24)
    # A power of two, so that the rows are the same but for their length.
    factor = 2.0 ** round(torch.tensor(scale).log2().item())
    ours = loss_and_grads((z0, z1), 0.1, eps=1e-36, backend="fused")
    scaled = loss_and_grads((z0 * factor, z1), 0.1, eps=1e-36, backend="fused")
    assert torch.equal(ours[0], scaled[0])
    assert torch.equal(ours[2], scaled[2])


def test_zero_infinite_and_undefined_rows() -> None:
    z0, z1 = views(40, 24)
    z0[3] = 0
    check_accuracy((z0, z1), 0.1, eps=1e-3, backend="fused")
    for value in (torch.inf, torch.nan):
        z0[5, 2] = value
        losses = nt_xent_loss(z0, z1, 0.1, reduction="none", backend="fused")
        assert losses[5].isnan()


@pytest.mark.parametrize("shape", [(97, 128), (777, 40)])
def test_any_number_of_threads_gives_the_same_bits(shape: tuple[int, int]) -> None:
    pair, before = views(*shape), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(loss_and_grads(pair, 0.1, backend="fused"))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_rows_are_saved_in_half_the_memory() -> None:
    z0, z1 = views(8, 24)
    t = torch.tensor(0.5, dtype=torch.float64)
    _, _, z, inv_norm = torch.ops.simclr_ext.nt_xent_forward(z0, z1, t, True, 1e-6)
    assert z.dtype == torch.bfloat16
    norms = torch.cat([z0, z1]).double().norm(dim=1)
    torch.testing.assert_close(inv_norm.double(), 1 / norms, rtol=1e-6, atol=0)
    # Multiplied by a power of two each: exact.
    ratio = torch.frexp((z / torch.cat([z0, z1])).float())[0]
    assert ((ratio == 0.5) | ratio.isnan()).all()


@pytest.mark.parametrize("halves", [True, False], ids=["halves", "floats"])
def test_siglip(halves: bool) -> None:
    rows = [z.requires_grad_() for z in views(150, 62)]
    exact = [z.detach().double().requires_grad_() for z in rows]
    with torch.backends.mkldnn.flags(enabled=halves):
        loss = siglip_loss(*rows, 5.0, -2.0, backend="fused")
        grads = torch.autograd.grad(loss, rows)
    truth = siglip_loss(*exact, 5.0, -2.0, backend="reference")
    torch.testing.assert_close(loss.double(), truth, rtol=1e-5, atol=0)
    for grad, expected in zip(grads, torch.autograd.grad(truth, exact), strict=True):
        assert (grad.double() - expected).norm() < 2**-7 * expected.norm()
