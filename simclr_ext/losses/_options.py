"""What the losses share: their options, the numbers of their rows, their reductions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from simclr_ext._checks.scalars import as_number, as_temperature, bool_of, check_eps
from simclr_ext.backends.contrastive import contrastive
from simclr_ext.backends.reference import (
    REDUCTIONS,
    Denominator,
    Reduction,
    compute_dtype,
    reduce_rows,
)
from simclr_ext.backends.selection import (
    Backend,
    check_backend,
    choose_backend,
    warn_of_tiled_on_cuda,
)
from simclr_ext.backends.tiled.rows import sum_dtype

if TYPE_CHECKING:
    from simclr_ext.distributed import Union

_ID_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


@dataclass(frozen=True)
class Options:
    """The options of a loss, checked.

    Args:
        temperature: T > 0; a number, a 0-d tensor, or [N], one for each row.
        reduction: Over the rows.
        normalize: Whether similarities are cosines.
        eps: Smallest norm.
        backend: The requested backend.
    """

    temperature: float | Tensor
    reduction: Reduction
    normalize: bool
    eps: float | None
    backend: Backend

    @classmethod
    def of(
        cls,
        temperature: float | Tensor,
        reduction: Reduction,
        normalize: bool,
        eps: float | None,
        backend: Backend,
        rows: Tensor | None = None,
    ) -> Options:
        """Return the options; raise TypeError or ValueError if one is wrong.

        Args:
            temperature: As the loss takes it.
            reduction: As the loss takes it.
            normalize: As the loss takes it.
            eps: As the loss takes it.
            backend: As the loss takes it.
            rows: [N, D], of a loss that takes a temperature for each of them; None of others.
        """
        if isinstance(temperature, Tensor) and temperature.numel() > 1 and rows is not None:
            _check_temperatures(temperature, rows)
        else:
            temperature = as_temperature(temperature)
        normalize = bool_of("normalize", normalize)
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
        if eps is not None:
            eps = as_number(eps)
            check_eps(eps)
        check_backend(backend)
        return cls(temperature, reduction, normalize, eps, backend)

    def changed(
        self, *, temperature: float | Tensor | None = None, eps: float | None = None
    ) -> Options:
        """Return the options with another temperature or eps.

        Dynamo of torch 2.6 does not trace dataclasses.replace.
        """
        return Options(
            self.temperature if temperature is None else temperature,
            self.reduction,
            self.normalize,
            self.eps if eps is None else eps,
            self.backend,
        )

    @property
    def of_rows(self) -> bool:
        """Whether there is a temperature for each row."""
        return isinstance(self.temperature, Tensor) and self.temperature.ndim == 1

    def eps_for(self, *dtypes: torch.dtype) -> float:
        """Return eps, by default that of rows of these dtypes."""
        if self.eps is not None:
            return self.eps
        return torch.finfo(torch.float16).tiny if torch.float16 in dtypes else 1e-12

    def chosen_backend(self, z: Tensor) -> str:
        """Return the backend for rows like ``z``; warn if it is a slow one."""
        name, obstacle = choose_backend(z, self.backend)
        if obstacle is not None and z.device.type == "cuda":
            warn_of_tiled_on_cuda(obstacle)
        return name


def row_losses(
    x: Tensor,
    y: Tensor | None,
    options: Options,
    temperature: float | Tensor | None = None,
    *,
    shifts: tuple[int, ...] = (),
    label: Tensor | None = None,
    ignored: Tensor | None = None,
    denominator: Denominator = "all",
    with_stats: bool = False,
    union: Union | None = None,
) -> tuple[Tensor, ...]:
    """Return the losses and lse of all rows of x and, if given, of y; see `contrastive`.

    Args:
        x: [R, D], checked.
        y: [C, D], checked, of any floating dtype; None: the rows x.
        options: Those of the loss.
        temperature: Instead of that of the options.
        shifts: Which columns are positive.
        label: int32, instead of shifts.
        ignored: int32: pairs of equal numbers are left out, unless they are positive.
        denominator: Which pairs are terms of the lse.
        with_stats: Whether to return the by-products, too.
        union: Over the columns of all its ranks, whose numbers label and ignored are.
    """
    eps = options.eps_for(x.dtype, *([] if y is None else [y.dtype]))
    if y is not None:
        x, y = promoted(x, y)
    if temperature is None:
        temperature = options.temperature
    how: dict[str, Any] = {
        "normalize": options.normalize,
        "eps": eps,
        "backend": options.chosen_backend(x),
        "shifts": shifts,
        "label": label,
        "ignored": ignored,
        "denominator": denominator,
    }
    if union is not None:
        return union.contrastive(x, y, temperature, **how)
    return contrastive(x, y, temperature, **how, with_stats=with_stats)


def promoted(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in one dtype, as ``torch.cat`` promotes them."""
    if x.dtype == y.dtype:
        return x, y
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)


def with_own_temperatures(
    x: Tensor, y: Tensor, options: Options, union: Union | None = None
) -> tuple[Tensor, Tensor, Options]:
    """Return rows, columns and options of one temperature, for one temperature per row of x.

    s_ij / T_i = (x_i t / T_i) . y_j / t with t = min_i T_i over the rows of all ranks of the union:
    rows no longer than those of x.
    """
    temperature = options.temperature
    assert isinstance(temperature, Tensor)
    eps = options.eps_for(x.dtype, y.dtype)
    dtype = compute_dtype(torch.promote_types(x.dtype, y.dtype))
    x, y = x.to(dtype), y.to(dtype)
    if options.normalize:
        x, y = unit_rows(x, eps), unit_rows(y, eps)
    least = temperature.detach().min()
    if union is not None:
        least = union.extremum(least, "min")
    x = x * (least / temperature).to(dtype)[:, None]
    return x, y, Options(least, options.reduction, False, eps, options.backend)


def unit_rows(z: Tensor, eps: float) -> Tensor:
    """Return each row divided by max(norm, eps), like F.normalize, for rows of any length.

    Squares of float32 numbers from 1e19 on overflow, and those below 1e-19 are 0.
    """
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True, dtype=sum_dtype(z.device))
    unit: Tensor = z * norm.clamp_min(eps).reciprocal().to(z.dtype)
    return unit


def _check_temperatures(temperature: Tensor, rows: Tensor) -> None:
    if temperature.shape != (len(rows),):
        raise ValueError(
            "temperature must be a float or a tensor of shape (), (1,) or (N,), here "
            f"({len(rows)},), got a tensor of shape {tuple(temperature.shape)}"
        )
    check_of_rows("temperature", temperature, rows)


def check_of_rows(name: str, values: Tensor, rows: Tensor) -> None:
    """Raise TypeError or ValueError unless it is a floating tensor [N] on the device of N rows."""
    n = len(rows)
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} must be a floating tensor [N] = [{n}], got {got}")
    if values.shape != (n,):
        raise ValueError(f"{name} must be [N] = [{n}], got shape {tuple(values.shape)}")
    _check_place(name, values, rows.device)


def _check_place(name: str, values: Tensor, device: torch.device) -> None:
    if values.device != device:
        raise ValueError(f"{name} must be on the device of the rows, {device}, got {values.device}")


def weights_of_views(weights: Tensor | None, z0: Tensor) -> Tensor | None:
    """Return the weights [2N] of the rows of two views, given those of N images, or None."""
    if weights is None:
        return None
    check_of_rows("weights", weights, z0)
    return weights.repeat(2)


def check_ids(name: str, ids: Tensor | None, rows: int, device: torch.device) -> None:
    """Raise TypeError or ValueError unless there is one integer for each of N rows, or None."""
    if ids is None:
        return
    if not isinstance(ids, Tensor) or ids.dtype not in _ID_DTYPES:
        got = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(f"{name} must be a tensor of integers [N] = [{rows}], got {got}")
    if ids.shape != (rows,):
        raise ValueError(f"{name} must be [N] = [{rows}], got shape {tuple(ids.shape)}")
    _check_place(name, ids, device)


def numbers_of(ids: Tensor, union: Union | None = None) -> Tensor:
    """Return int32 numbers [rows] that are equal where the ids are; the ids may be any integers.

    Args:
        ids: [rows], checked.
        union: If given, the numbers are equal where the ids of all its ranks are.
    """
    if union is not None:
        return union.numbers(ids)[0]
    # By rank, not by value: 2^40 is an id too. No shape depends on the values, for compilation.
    values, order = ids.sort()
    rank = torch.zeros_like(order)
    rank[1:] = (values[1:] != values[:-1]).cumsum(0)
    return torch.empty_like(rank).scatter_(0, order, rank).to(torch.int32)


def sizes_of(numbers: Tensor) -> Tensor:
    """Return how many rows have each of the numbers 0 to rows - 1, [rows] int64."""
    index = numbers.long()
    return torch.zeros_like(index).scatter_add_(0, index, torch.ones_like(index))


def reduce_weighted(
    losses: Tensor, reduction: Reduction, weights: Tensor | None, union: Union | None = None
) -> Tensor:
    """Return the reduced losses [rows], each times its weight; the mean is the weighted one.

    With a union the mean or sum is over the rows of all its ranks.
    """
    if union is not None:
        return union.reduce(losses, reduction, weights)
    if weights is None:
        return reduce_rows(losses, reduction)
    weights = weights.to(losses.dtype)
    weighted = losses * weights
    if reduction == "mean":
        return weighted.sum() / weights.sum()
    return reduce_rows(weighted, reduction)
