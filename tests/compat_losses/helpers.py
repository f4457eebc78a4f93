"""A loss and its adapter train the same encoder: losses, gradients and state agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

STEPS = 4
# Relative, of values and of gradients: rounding of two correct implementations, not another loss.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def batches(n: int, views: int, dtype: torch.dtype, dim: int = 11) -> list[list[Tensor]]:
    """Return the inputs of an encoder for all steps: views of n images that resemble each other."""
    found = []
    for _ in range(STEPS):
        image = torch.randn(n, dim, dtype=torch.float64)
        noise = torch.randn(views, n, dim, dtype=torch.float64)
        found.append([(image + 0.7 * x).to(dtype) for x in noise])
    return found


def train(
    loss: Callable[..., Tensor], steps: list[list[Tensor]], seed: int = 3
) -> list[tuple[Tensor, Tensor]]:
    """Train a linear encoder with a loss of its outputs; return the losses and gradients."""
    generator = torch.Generator().manual_seed(seed)
    dtype = steps[0][0].dtype
    weight = torch.randn(11, 6, generator=generator, dtype=torch.float64).to(dtype)
    weight.requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.3, momentum=0.9)
    history = []
    for views in steps:
        optimizer.zero_grad()
        value = loss(*[x @ weight for x in views])
        value.backward()
        assert weight.grad is not None
        history.append((value.detach().clone(), weight.grad.clone()))
        # An encoder that explodes would show differences of rounding and nothing else.
        nn.utils.clip_grad_norm_(weight, 1.0)
        optimizer.step()
    return history


def assert_same_training(
    theirs: Callable[..., Tensor],
    ours: Callable[..., Tensor],
    steps: list[list[Tensor]],
    tolerance: float | None = None,
) -> None:
    """Compare both, each with its own encoder, at every step."""
    if tolerance is None:
        tolerance = TOLERANCE[steps[0][0].dtype]
    for expected, found in zip(train(theirs, steps), train(ours, steps), strict=True):
        for truth, value in zip(expected, found, strict=True):
            assert value.dtype == truth.dtype
            assert value.shape == truth.shape
            error = (value - truth).norm() / truth.norm().clamp(min=0.03)
            assert error < tolerance, (error, truth.norm())


def assert_same_state(theirs: nn.Module, ours: nn.Module) -> None:
    """Compare buffers, by name, and the names of the state."""
    expected, found = dict(theirs.named_buffers()), dict(ours.named_buffers())
    assert found.keys() == expected.keys()
    for name, buffer in expected.items():
        assert found[name].dtype == buffer.dtype
        torch.testing.assert_close(found[name], buffer, rtol=1e-4, atol=1e-5)
    assert theirs.state_dict().keys() == ours.state_dict().keys()


def unit(z: Tensor) -> Tensor:
    """Return the rows divided by their norms, as trainers do for losses that do not."""
    return nn.functional.normalize(z, dim=-1)
