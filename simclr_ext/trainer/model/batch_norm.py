r"""Batch norm over the images of all processes of a job.

With x_r the values of a channel on rank r, n_r their number, and sums over all ranks,

.. math:: \mu = \frac{\sum_r n_r \mu_r}{\sum_r n_r}, \qquad
          \sigma^2 = \frac{\sum_r n_r \bigl(\sigma_r^2 + (\mu_r - \mu)^2\bigr)}{\sum_r n_r}

On a GPU it is `torch.nn.SyncBatchNorm`, which does not run on a CPU; there it is `GlobalBatchNorm`.

Source: SimCLR (arXiv 2002.05709), section 2.2, "Global BN".
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from simclr_ext.distributed import Ranks
from simclr_ext.options.errors import ConfigError

_AFTER = ("drop", "act")  # what timm's BatchNormAct2d applies to its output


class GlobalBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of all ranks of `ranks`, on any device.

    Ranks may have different numbers of images, but none may have no image. The gradients of weight
    and bias are those of this rank's images, which DDP averages like all others.
    """

    ranks: Ranks

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input of at least 2 dimensions, got {input.dim()}")

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized input [B, C, ...]."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, count = _Normalize.apply(
            input, self.weight, self.bias, self.eps, self.ranks
        )
        if self.training and self.running_mean is not None:
            self._track(mean, variance, count)
        result: Tensor = output
        return result

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Update the running statistics, as `torch.nn.BatchNorm2d` does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1))
        self.running_mean.lerp_(mean.to(self.running_mean), step)
        self.running_var.lerp_(unbiased.to(self.running_var), step)


class _Normalize(torch.autograd.Function):
    """Maps x [B, C, ...] to its normalized values, and to mean, variance and count of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(_wide(x), _others(x), correction=0)
        count = x.new_full((x.shape[1],), x.numel() / x.shape[1], dtype=torch.float64)
        # [G, C] each, on every rank; in float64, in which joining them loses nothing.
        own = torch.stack([count, mean.double(), variance.double()])
        counts, means, variances = ranks.gather(own).unbind(1)
        total = counts.sum(0)
        dtype = mean.dtype
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / total
        statistics = (mean.to(dtype), variance.to(dtype))
        output = torch.native_batch_norm(x, weight, bias, *statistics, False, 0.0, eps)[0]
        ctx.ranks = ranks
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), total)
        ctx.mark_non_differentiable(mean, variance, total)
        return output, mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        r"""Return the gradients, with c = x - mu, g the incoming gradient and means over all ranks.

        .. math:: \frac{w}{\sigma} \bigl(g - \overline{g} - c\, \overline{g c} / \sigma^2\bigr)
        """
        x, weight, mean, inverse, total = ctx.saved_tensors
        wide, g = _wide(x), _wide(grad)
        c = wide - _along(mean, wide)
        sums = torch.stack([g.sum(_others(g)), (g * c).sum(_others(g))]).double()
        mean_g, mean_gc = ctx.ranks.reduce(sums, "sum") / total
        scale = inverse if weight is None else inverse * weight
        gradient = g * _along(scale, g) - _along(scale * mean_g, g)
        gradient -= c.mul_(_along(scale * mean_gc * inverse**2, g))
        grad_weight = None if weight is None else (sums[1] * inverse).to(weight)
        grad_bias = None if weight is None else sums[0].to(weight)
        return gradient.to(x), grad_weight, grad_bias, None, None


def _wide(x: Tensor) -> Tensor:
    """Return values in the type in which they are added up: float32, or float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _others(x: Tensor) -> list[int]:
    """Return all dimensions but that of the channels."""
    return [0, *range(2, x.dim())]


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Return values of the channels [C] in x's dtype, to broadcast to x [B, C, ...]."""
    return values.to(x.dtype).view(-1, *[1] * (x.dim() - 2))


def with_global_statistics(model: nn.Module, group: dist.ProcessGroup) -> nn.Module:
    """Return a model that shares weights and buffers, with global statistics in its batch norms.

    The model itself stays as it is, so that checkpoints, evaluation and export do not differ from
    those of a run in one process.

    Args:
        model: Any module.
        group: The ranks whose images are normalized together.

    Raises:
        ConfigError: A batch norm is of a kind that has computations of its own.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, memo=shared)
    new: dict[nn.Module, nn.Module] = {}
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                if child not in new:  # one layer may have several places
                    new[child] = _global(child, group)
                setattr(module, name, new[child])
    return twin


def _global(layer: _BatchNorm, group: dist.ProcessGroup) -> nn.Module:
    """Return a layer with the weights and buffers of a batch norm, and global statistics."""
    normalizes_only = type(layer).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
    activates = all(hasattr(layer, name) for name in _AFTER)
    if not normalizes_only and not activates:
        raise ConfigError(
            f"model.sync_batch_norm must be false for {type(layer).__name__}, a batch norm with "
            "computations of its own"
        )
    sizes = (layer.num_features, layer.eps, layer.momentum, False)
    on_gpu = any(tensor.is_cuda for tensor in (*layer.parameters(), *layer.buffers()))
    made = (nn.SyncBatchNorm if on_gpu else GlobalBatchNorm)(*sizes)
    made.affine, made.track_running_stats = layer.affine, layer.track_running_stats
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(made, name, getattr(layer, name))
    if isinstance(made, GlobalBatchNorm):
        made.ranks = Ranks.of(group)
    else:
        made.process_group = group
    return made if normalizes_only else nn.Sequential(made, *map(layer.get_submodule, _AFTER))
