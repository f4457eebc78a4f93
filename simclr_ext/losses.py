"""The NT-Xent loss as a function and as a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simclr_ext import ops, reference
from simclr_ext._checks import (
    check_eps,
    check_temperature,
    check_temperature_value,
    check_views,
    operator_temperature,
)
from simclr_ext.reference import REDUCTIONS, Reduction
from simclr_ext.selection import (
    Backend,
    check_backend,
    select_backend,
    warn_of_tiled_on_cuda,
)


def nt_xent_loss(
    z0: Tensor,
    z1: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compute SimCLR's NT-Xent loss of two batches of views, in O(N D) memory.

    With z the 2N rows of ``z0`` and ``z1``, s their cosine similarities and T the temperature,

    .. math:: \ell_i = -\log \frac{\exp(s_{i,p(i)} / T)}{\sum_{j \ne i} \exp(s_{ij} / T)},
              \qquad p(i) = (i + N) \bmod 2N

    The result and the gradients are exact (all 2N - 2 negatives of each row), and bitwise the same
    from run to run; those of the fused kernels also for any number of threads.

    Args:
        z0: Embeddings of the first views, [N, D], N >= 1 and D >= 1, any strides; float64 is
            computed in float64, float32, bfloat16 and float16 in float32.
        z1: Embeddings of the second views, of the shape, dtype and device of ``z0``; row i is the
            positive of row i of ``z0``.
        temperature: T > 0; a float, or a 0-d floating tensor, which receives a gradient if it
            requires one.
        reduction: ``"mean"`` or ``"sum"`` over the 2N rows, or ``"none"``: the losses of all rows,
            [2N], those of ``z0`` first.
        normalize: Whether to divide each row by its l2 norm first. If not, s are dot products.
        eps: Rows with a norm below this are divided by it instead, as in ``F.normalize``. At least
            1.2e-38; by default 1e-12, and for float16 its smallest normal number, 6.1e-5.
        backend: ``"fused"``: compiled kernels. ``"tiled"``: the same algorithm in PyTorch
            operations, for any device and without a compiler. Both are differentiable once.
            ``"reference"``: plain PyTorch with the 2N x 2N matrix in memory; differentiable any
            number of times. ``"auto"``: fused on the CPU and, where the kernels support the views,
            on CUDA; else tiled, with a warning on CUDA. :func:`simclr_ext.select_backend` returns
            which one runs and why.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Raises:
        TypeError: If an argument has the wrong type, or a view the wrong dtype.
        ValueError: If a shape, device, temperature, eps or name is not as above.
        BackendUnavailableError: If ``"fused"`` is requested and does not support these views, or
            the CPU kernels cannot be compiled.

    Example:
        >>> z0, z1 = torch.eye(4, requires_grad=True), torch.eye(4)
        >>> loss = nt_xent_loss(z0, z1, temperature=0.5)  # log(e^2 + 6) - 2
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.5944

    Source: SimCLR (arXiv 2002.05709), section 2.1, equation 1.
    """
    check_views(z0, z1)
    _check_options(temperature, reduction, eps, backend)
    if eps is None:
        eps = torch.finfo(torch.float16).tiny if z0.dtype == torch.float16 else 1e-12
    choice = select_backend(z0, backend)
    if choice.name == "reference":
        value = operator_temperature(temperature, z0.device)
        if not torch.compiler.is_compiling():  # reading the value would break the graph
            check_temperature_value(value)
        return reference.nt_xent(
            z0, z1, temperature, reduction=reduction, normalize=normalize, eps=eps
        )
    if choice.name == "tiled" and backend == "auto" and z0.device.type == "cuda":
        warn_of_tiled_on_cuda(choice.reason)
    return ops.nt_xent(
        z0,
        z1,
        temperature,
        reduction=reduction,
        normalize=normalize,
        eps=eps,
        backend=choice.name,
    )


class NTXentLoss(nn.Module):
    """SimCLR's NT-Xent loss as a module; see :func:`nt_xent_loss` for the equation.

    Takes the arguments of ``lightly.loss.NTXentLoss`` under the same names, in the same order, and
    returns the same value.

    Args:
        temperature: T > 0; a float, or a 0-d tensor. Pass an ``nn.Parameter`` to learn it.
        memory_bank_size: Must be 0; there is no memory bank.
        gather_distributed: Must be False; negatives come from this process alone.
        reduction: As in :func:`nt_xent_loss`.
        normalize: As in :func:`nt_xent_loss`.
        eps: As in :func:`nt_xent_loss`.
        backend: As in :func:`nt_xent_loss`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.
        NotImplementedError: If a memory bank or distributed gathering is requested.

    Example:
        >>> criterion = NTXentLoss(temperature=0.1)
        >>> z0, z1 = torch.randn(256, 128), torch.randn(256, 128)
        >>> criterion(z0, z1).shape
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        memory_bank_size: int = 0,
        gather_distributed: bool = False,
        *,
        reduction: Reduction = "mean",
        normalize: bool = True,
        eps: float | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if memory_bank_size != 0:
            raise NotImplementedError(f"memory_bank_size must be 0, got {memory_bank_size!r}")
        if gather_distributed:
            raise NotImplementedError("gather_distributed must be False, got True")
        _check_options(temperature, reduction, eps, backend)
        if isinstance(temperature, Tensor) and temperature.device.type != "meta":
            check_temperature_value(temperature)
        self.temperature = temperature
        self.reduction: Reduction = reduction
        self.normalize = normalize
        self.eps = eps
        self.backend: Backend = backend

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
        """Return the loss of the views ``z0`` and ``z1``, [N, D] each."""
        return nt_xent_loss(
            z0,
            z1,
            self.temperature,
            reduction=self.reduction,
            normalize=self.normalize,
            eps=self.eps,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        return (
            f"temperature={self.temperature!r}, reduction={self.reduction!r}, "
            f"normalize={self.normalize}, backend={self.backend!r}"
        )


def _check_options(
    temperature: float | Tensor, reduction: str, eps: float | None, backend: str
) -> None:
    check_temperature(temperature)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    if eps is not None:
        check_eps(eps)
    check_backend(backend)
