"""The NT-Xent loss as a function and as a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from simclr_ext._checks import (
    as_number,
    as_temperature,
    check_eps,
    check_max_scale,
    check_temperature_value,
    check_views,
    operator_temperature,
    second_view_missing,
)
from simclr_ext.backends import ops, reference
from simclr_ext.backends.reference import REDUCTIONS, Reduction
from simclr_ext.backends.selection import (
    Backend,
    check_backend,
    select_backend,
    warn_of_tiled_on_cuda,
)


def nt_xent_loss(
    z0: Tensor,
    z1: Tensor | None = None,
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

    One tensor with both views is split by the caller, as ``*z.chunk(2)`` if its rows are stacked,
    ``z[0::2], z[1::2]`` if they are interleaved, or ``*z.unbind(1)`` if it is [N, 2, D]. These
    slices copy nothing. There is no argument for it: the shape [2N, D] does not tell the layouts
    apart, so a default would pair wrong rows in silence.

    Args:
        z0: Embeddings of the first views, [N, D], N >= 1 and D >= 1, any strides; float64 is
            computed in float64, float32, bfloat16 and float16 in float32.
        z1: Embeddings of the second views, of the shape and device of ``z0``; row i is the
            positive of row i of ``z0``. Views of two dtypes are promoted as ``torch.cat`` does.
            Required: without it the error says how to split ``z0``.
        temperature: T > 0; a number, or a floating tensor of shape [] or [1], which receives a
            gradient if it requires one.
        reduction: ``"mean"`` or ``"sum"`` over the 2N rows, or ``"none"``: the losses of all rows,
            [2N], those of ``z0`` first.
        normalize: Whether to divide each row by its l2 norm first. If not, s are dot products.
        eps: Rows with a norm below this are divided by it instead, as in ``F.normalize``. At least
            1.2e-38; by default 1e-12, and with a float16 view its smallest normal number, 6.1e-5.
        backend: ``"fused"``: compiled kernels. ``"tiled"``: the same algorithm in PyTorch
            operations, for any device and without a compiler. Both are differentiable once.
            ``"reference"``: plain PyTorch with the 2N x 2N matrix in memory; differentiable any
            number of times. ``"auto"``: fused on the CPU and, where the kernels support the views,
            on CUDA; else tiled, with a warning on CUDA. :func:`simclr_ext.select_backend` returns
            which one runs and why.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Raises:
        TypeError: If an argument has the wrong type, a view has the wrong dtype, or one is missing.
        ValueError: If a shape, device, temperature, eps or name is not as above.
        BackendUnavailableError: If ``"fused"`` is requested and does not support these views, or
            the CPU kernels cannot be compiled.

    Example:
        >>> z0, z1 = torch.eye(4, requires_grad=True), torch.eye(4)
        >>> loss = nt_xent_loss(z0, z1, temperature=0.5)  # log(e^2 + 6) - 2
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.5944
        >>> z = torch.cat([z0, z1])  # one tensor, stacked
        >>> round(nt_xent_loss(*z.chunk(2), temperature=0.5).item(), 4)
        0.5944

    Source: SimCLR (arXiv 2002.05709), section 2.1, equation 1.
    """
    if z1 is None:
        raise second_view_missing(z0)
    check_views(z0, z1)
    temperature, eps = _check_options(temperature, reduction, eps, backend)
    if eps is None:
        eps = torch.finfo(torch.float16).tiny if torch.float16 in (z0.dtype, z1.dtype) else 1e-12
    if z0.dtype != z1.dtype:
        dtype = torch.promote_types(z0.dtype, z1.dtype)
        z0, z1 = z0.to(dtype), z1.to(dtype)
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
        temperature: T > 0; a number, or a floating tensor of shape [] or [1]. An ``nn.Parameter``
            is learned, and a parameter of the module; any other tensor is a buffer of it.
        memory_bank_size: Must be 0; there is no memory bank.
        gather_distributed: Allowed if there is one process, where it changes nothing. With several
            it is an error: negatives come from this process alone.
        reduction: As in :func:`nt_xent_loss`.
        normalize: As in :func:`nt_xent_loss`.
        eps: As in :func:`nt_xent_loss`.
        backend: As in :func:`nt_xent_loss`.
        max_scale: If given, the loss uses max(T, 1 / max_scale) of a temperature that is a tensor;
            CLIP has 100. CLIP clamps its parameter in place after every step; here the parameter
            is left alone, so that the module works under ``torch.func``, FSDP and compilation.
            Instead, below 1 / max_scale it gets the gradient at 1 / max_scale if a descent along
            it raises T, and else 0: so it neither drifts off nor gets stuck.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.
        NotImplementedError: If a memory bank is requested, or gathering from several processes
            (also by a call, if the processes were set up after the module).

    Example:
        >>> criterion = NTXentLoss(temperature=0.1)
        >>> z0, z1 = torch.randn(256, 128), torch.randn(256, 128)
        >>> criterion(z0, z1).shape
        torch.Size([])
        >>> learned = NTXentLoss(nn.Parameter(torch.tensor(0.07)), max_scale=100)
        >>> [name for name, _ in learned.named_parameters()]
        ['temperature']

    Source: for ``max_scale``, CLIP (arXiv 2103.00020), section 2.5.
    """

    temperature: float | Tensor

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
        max_scale: float | None = None,
    ) -> None:
        super().__init__()
        if memory_bank_size != 0:
            raise NotImplementedError(f"memory_bank_size must be 0, got {memory_bank_size!r}")
        if gather_distributed:
            _check_one_process()
        scalar, eps = _check_options(temperature, reduction, eps, backend)
        if max_scale is not None:
            max_scale = as_number(max_scale)
            check_max_scale(max_scale, scalar)
        if isinstance(scalar, Tensor) and scalar.device.type != "meta":
            check_temperature_value(scalar)
        if isinstance(temperature, Tensor) and not isinstance(temperature, nn.Parameter):
            self.register_buffer("temperature", temperature)
        else:
            self.temperature = temperature if isinstance(temperature, Tensor) else scalar
        self.gather_distributed = gather_distributed
        self.reduction: Reduction = reduction
        self.normalize = normalize
        self.eps = eps
        self.backend: Backend = backend
        self.max_scale = max_scale

    def forward(self, z0: Tensor, z1: Tensor | None = None) -> Tensor:
        """Return the loss of the views ``z0`` and ``z1``, [N, D] each."""
        if self.gather_distributed:
            _check_one_process()
        temperature = self.temperature
        if self.max_scale is not None:
            temperature = _AtLeast.apply(temperature, 1 / self.max_scale)
        return nt_xent_loss(
            z0,
            z1,
            temperature,
            reduction=self.reduction,
            normalize=self.normalize,
            eps=self.eps,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        clamp = "" if self.max_scale is None else f", max_scale={self.max_scale}"
        return (
            f"temperature={self.temperature!r}, reduction={self.reduction!r}, "
            f"normalize={self.normalize}, backend={self.backend!r}{clamp}"
        )


class _AtLeast(torch.autograd.Function):
    """max(t, least) with a gradient for t < least, too, if a descent along it raises t."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor, least: float) -> Tensor:
        return t.clamp(min=least)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        t, ctx.least = inputs
        ctx.save_for_backward(t)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (t,) = ctx.saved_tensors
        return grad.masked_fill((t < ctx.least) & (grad > 0), 0), None


def _check_one_process() -> None:
    processes = _world_size()
    if processes > 1:
        raise NotImplementedError(
            "gather_distributed=True needs negatives from all processes, which are not implemented "
            f"yet, and there are {processes}; with gather_distributed=False each process uses its "
            "own"
        )


# Dynamo runs it while it traces: the number of processes does not change.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _world_size() -> int:
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def _check_options(
    temperature: float | Tensor, reduction: str, eps: float | None, backend: str
) -> tuple[float | Tensor, float | None]:
    """Return the temperature as a number or a 0-d tensor, and eps."""
    temperature = as_temperature(temperature)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    if eps is not None:
        eps = as_number(eps)
        check_eps(eps)
    check_backend(backend)
    return temperature, eps
