"""The NT-Xent loss as a function and as a module."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from simclr_ext import ops, reference
from simclr_ext._backend import BackendUnavailableError
from simclr_ext.reference import Reduction

Backend = Literal["auto", "fused", "reference"]

_SMALLEST_EPS = torch.finfo(torch.float32).tiny  # its reciprocal is still finite in float32


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
    from run to run and for any number of threads.

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
        backend: ``"fused"``: compiled kernels; differentiable once. ``"reference"``: plain PyTorch
            with the 2N x 2N matrix in memory; differentiable any number of times. ``"auto"``: the
            kernels, or an error where there are none for the device; never the reference.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Raises:
        TypeError: If an argument has the wrong type, or a view the wrong dtype.
        ValueError: If a shape, device, temperature, eps or name is not as above.
        BackendUnavailableError: If the kernels are asked for and there are none.

    Example:
        >>> z0, z1 = torch.eye(4, requires_grad=True), torch.eye(4)
        >>> loss = nt_xent_loss(z0, z1, temperature=0.5)  # log(e^2 + 6) - 2
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.5944

    Source: SimCLR (arXiv 2002.05709), section 2.1, equation 1.
    """
    _check_views(z0, z1)
    _check_options(temperature, reduction, eps, backend)
    if eps is None:
        eps = torch.finfo(torch.float16).tiny if z0.dtype == torch.float16 else 1e-12
    if backend == "reference":
        return reference.nt_xent(
            z0, z1, temperature, reduction=reduction, normalize=normalize, eps=eps
        )
    _check_device(z0.device)
    if not isinstance(temperature, Tensor):
        temperature = torch.tensor(temperature, dtype=torch.float64)
    return ops.nt_xent(z0, z1, temperature, reduction=reduction, normalize=normalize, eps=eps)


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
        NotImplementedError: If a memory bank or distributed gathering is asked for.

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


def _check_views(z0: Tensor, z1: Tensor) -> None:
    for name, z in (("z0", z0), ("z1", z1)):
        if not isinstance(z, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(z).__name__}")
        if not z.dtype.is_floating_point:
            raise TypeError(f"{name} must have a floating dtype, got {z.dtype}")
    if z0.ndim != 2 or z0.shape[0] < 1 or z0.shape[1] < 1:
        raise ValueError(
            f"z0 must be [N, D] with N >= 1 and D >= 1, got a tensor of shape {tuple(z0.shape)}"
        )
    if z1.shape != z0.shape:
        raise ValueError(f"z1 must have the shape of z0, {tuple(z0.shape)}, got {tuple(z1.shape)}")
    if z1.dtype != z0.dtype:
        raise TypeError(f"z1 must have the dtype of z0, {z0.dtype}, got {z1.dtype}")
    if z1.device != z0.device:
        raise ValueError(f"z1 must be on the device of z0, {z0.device}, got {z1.device}")


def _check_options(
    temperature: float | Tensor, reduction: str, eps: float | None, backend: str
) -> None:
    if isinstance(temperature, Tensor):
        if temperature.ndim != 0:
            raise ValueError(
                "temperature must be a float or a 0-d tensor, got a tensor of shape "
                f"{tuple(temperature.shape)}"
            )
        if not temperature.dtype.is_floating_point:
            raise TypeError(f"temperature must have a floating dtype, got {temperature.dtype}")
    elif isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise TypeError(
            f"temperature must be a float or a 0-d tensor, got {type(temperature).__name__}"
        )
    # While compiling, a tensor has no value; the operator checks it when it runs.
    if not (isinstance(temperature, Tensor) and torch.compiler.is_compiling()):
        value = temperature.item() if isinstance(temperature, Tensor) else temperature
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"temperature must be positive and finite, got {value}")
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {get_args(Reduction)}, got {reduction!r}")
    if eps is not None and not (math.isfinite(eps) and eps >= _SMALLEST_EPS):
        raise ValueError(f"eps must be at least {_SMALLEST_EPS:.1e} and finite, got {eps}")
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")


def _check_device(device: torch.device) -> None:
    if device.type not in ("cpu", "meta"):
        raise BackendUnavailableError(
            f"There are no fused NT-Xent kernels for device {device} yet, only for the CPU. "
            "Call nt_xent_loss(..., backend='reference') to run in plain PyTorch there."
        )
