"""The products of the tiles by the micro-kernel, and by BLAS if it is off."""

from __future__ import annotations

import pytest
import torch

from simclr_ext import nt_xent_loss
from tests.accuracy import check_accuracy, loss_and_grads

# One tile, ragged blocks, blocks whose diagonal is cut; D below, at and beyond a panel of 256; more
# rows of 4 KiB than are multiplied at a time.
SHAPES = [(1, 1), (3, 33), (65, 127), (97, 256), (150, 257), (100, 600), (700, 40), (270, 1030)]


@pytest.mark.parametrize("micro_kernel", [True, False], ids=["micro-kernel", "BLAS"])
@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("temperature", [0.5, 0.01])
def test_either_is_exact(n: int, d: int, temperature: float, micro_kernel: bool) -> None:
    views = torch.randn(2, n, d).unbind()
    with torch.backends.mkldnn.flags(enabled=micro_kernel):
        check_accuracy(views, temperature, backend="fused")


@pytest.mark.parametrize("which", [0, 1])
def test_gradients_of_one_view_alone(which: int) -> None:
    z = [torch.randn(300, 270) for _ in range(2)]
    both = [x.clone().requires_grad_() for x in z]
    nt_xent_loss(*both, 0.2).backward()
    z[which].requires_grad_()
    nt_xent_loss(*z, 0.2).backward()
    assert z[1 - which].grad is None
    torch.testing.assert_close(z[which].grad, both[which].grad, rtol=1e-5, atol=1e-9)


def test_the_switch_has_an_effect() -> None:
    """Otherwise the two cases above would test the same code."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    # Larger than a panel: within one, both may sum in the same order.
    views = torch.randn(2, 500, 300).unbind()
    found = []
    for micro_kernel in (True, False):
        with torch.backends.mkldnn.flags(enabled=micro_kernel):
            found.append(loss_and_grads(views, 0.1, backend="fused"))
    assert any(not torch.equal(a, b) for a, b in zip(*found, strict=True))
