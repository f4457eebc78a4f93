"""What the modules of the losses share: a temperature that may be learned, and the options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from simclr_ext._checks.scalars import as_number, check_max_scale, check_temperature_value
from simclr_ext.backends.reference import Reduction
from simclr_ext.backends.selection import Backend
from simclr_ext.losses._options import Options
from simclr_ext.losses._ranks import check_exchange

if TYPE_CHECKING:
    from simclr_ext.distributed import Exchange, Group


class ContrastiveLoss(nn.Module):
    """The base of the modules.

    Args:
        temperature: T > 0; a number, or a floating tensor of shape [] or [1]. An ``nn.Parameter``
            is learned, and a parameter of the module; any other tensor is a buffer of it.
        reduction: As the loss takes it.
        normalize: As the loss takes it.
        eps: As the loss takes it.
        backend: As the loss takes it.
        max_scale: If given, the loss uses max(T, 1 / max_scale) of a temperature that is a tensor.
        group: As the loss takes it.
        exchange: As the loss takes it.
    """

    temperature: float | Tensor

    def __init__(
        self,
        temperature: float | Tensor,
        reduction: Reduction,
        normalize: bool,
        eps: float | None,
        backend: Backend,
        max_scale: float | None,
        group: Group | None = None,
        exchange: Exchange = "gather",
    ) -> None:
        super().__init__()
        options = Options.of(temperature, reduction, normalize, eps, backend)
        check_exchange(exchange)
        scalar = options.temperature
        if max_scale is not None:
            max_scale = as_number(max_scale)
            check_max_scale(max_scale, scalar)
        if isinstance(scalar, Tensor) and scalar.device.type != "meta":
            check_temperature_value(scalar)
        if isinstance(temperature, Tensor) and not isinstance(temperature, nn.Parameter):
            self.register_buffer("temperature", temperature)
        else:
            self.temperature = temperature if isinstance(temperature, Tensor) else scalar
        self.reduction: Reduction = reduction
        self.normalize = normalize
        self.eps = options.eps
        self.backend: Backend = backend
        self.max_scale = max_scale
        self.group = group
        self.exchange: Exchange = exchange

    def clamped_temperature(self) -> float | Tensor:
        """Return max(T, 1 / max_scale)."""
        if self.max_scale is None:
            return self.temperature
        clamped: Tensor = _AtLeast.apply(self.temperature, 1 / self.max_scale)
        return clamped

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments that all loss functions take."""
        return {
            "reduction": self.reduction,
            "normalize": self.normalize,
            "eps": self.eps,
            "backend": self.backend,
            "group": self.group,
            "exchange": self.exchange,
        }

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
