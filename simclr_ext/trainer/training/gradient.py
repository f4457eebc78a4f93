"""Loss and gradients of one batch: in one pass, or in two for batches beyond memory.

Two passes (GradCache, Gao et al., arXiv 2101.06983) keep the activations of one chunk at a time:

    1. without graph:    z_c = forward(chunk c) for all c
    2. once, on all z:   loss L(z), dL/dz
    3. chunk by chunk:   z_c = forward(chunk c) again, with graph; backward from dL/dz_c

The loss has all 2N - 2 negatives, and the gradient equals the one-pass gradient if the network
treats images independently. Batch norm does not: its statistics are those of the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

Forward = Callable[[Tensor, int], Tensor]
"""Maps the images of a chunk and its number to z of their views, [2n, D], first views first. Must
return the same z each time: the same views, the same dropout."""

Loss = Callable[[Tensor, Tensor], Tensor]


def halves(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second views of z, [N, D] each."""
    n = len(z) // 2
    return z[:n], z[n:]


def one_pass(
    forward: Forward, batch: Tensor, loss_of: Loss, scaler: GradScaler
) -> tuple[Tensor, Tensor]:
    """Add the gradients of a batch to the parameters'.

    Args:
        forward: The network, with its views.
        batch: The images.
        loss_of: Function of z of the first and z of the second views to the loss.
        scaler: Scales the loss for the backward pass, if enabled.

    Returns:
        The loss, and z [2N, D], both without graph.
    """
    z = forward(batch, 0)
    loss = loss_of(*halves(z))
    torch.autograd.backward(scaler.scale(loss))
    return loss.detach(), z.detach()


def two_pass(
    forward: Forward,
    batch: Tensor,
    loss_of: Loss,
    scaler: GradScaler,
    *,
    micro_batch: int,
    model: nn.Module,
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[Tensor, Tensor]:
    """Add the gradients of a batch to the parameters', keeping the activations of one chunk.

    Args:
        forward: As for `one_pass`.
        batch: As for `one_pass`.
        loss_of: As for `one_pass`.
        scaler: As for `one_pass`.
        micro_batch: Images of a chunk.
        model: The network, whose buffers the first pass must not change.
        no_sync: Keeps gradients from being averaged over processes, which is done with the last
            chunk's.

    Returns:
        As `one_pass`.
    """
    chunks = torch.split(batch, micro_batch)
    with torch.no_grad(), _unmoved_buffers(model):
        pairs = [halves(forward(chunk, index)) for index, chunk in enumerate(chunks)]
    z0, z1 = (torch.cat(views).requires_grad_() for views in zip(*pairs, strict=True))  # [N, D]
    loss = loss_of(z0, z1)
    dz0, dz1 = torch.autograd.grad(scaler.scale(loss), (z0, z1))
    gradients = zip(torch.split(dz0, micro_batch), torch.split(dz1, micro_batch), strict=True)
    for index, (chunk, gradient) in enumerate(zip(chunks, gradients, strict=True)):
        with no_sync() if index + 1 < len(chunks) else nullcontext():
            torch.autograd.backward(forward(chunk, index), torch.cat(gradient))
    return loss.detach(), torch.cat([z0, z1]).detach()


@contextmanager
def _unmoved_buffers(model: nn.Module) -> Iterator[None]:
    """Restore all buffers at the end, so that running statistics count each chunk only once."""
    saved = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in saved:
            buffer.copy_(value)
