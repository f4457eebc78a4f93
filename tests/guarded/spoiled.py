"""Inputs of which one is changed, so that it may be invalid."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.guarded.inputs import Arguments

_NUMBERS = [-(2**63), -(2**62), -1, 0, 1, 5, 2**31, 2**33, 2**62, 2**63 - 1]
_HUGE = (2**48, 2**50)  # elements: more than the address space, and torch can count them
_DTYPES = (
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn),
    *(torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64, torch.complex128),
)
Change = Callable[[Tensor, random.Random], Tensor]


def spoil(inputs: Arguments, source: random.Random) -> Arguments:
    """Return the inputs with another value of one of them."""
    name = source.choice([key for key, value in inputs.items() if value is not None])
    return {**inputs, name: _other(inputs[name], inputs, source)}


def _other(value: Any, inputs: Arguments, source: random.Random) -> Any:
    if isinstance(value, Tensor):
        if source.random() < 0.2:  # that of another argument
            return source.choice([v for v in inputs.values() if isinstance(v, Tensor)])
        change = source.choice([change for can, change in _CHANGES if can(value)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sparse and nested tensors are prototypes
            return change(value, source)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return source.choice(["", "some", "cpu", "positives", "ring", "tiled"])
    if isinstance(value, float):
        return source.choice([0.0, -1.0, float("nan"), float("inf"), 1e300, 1e-45])
    if isinstance(value, list) and value and isinstance(value[0], bool):
        return [not needs for needs in value]
    if isinstance(value, list) and value and isinstance(value[0], float):
        return [float("nan")] * source.randrange(30)
    if isinstance(value, list):
        return [source.choice(_NUMBERS) for _ in range(source.randrange(4))]
    return source.choice(_NUMBERS)


def _any(value: Tensor) -> bool:
    return True


def _has_rows(value: Tensor) -> bool:
    return value.dim() > 0 and len(value) > 0


def _has_elements(value: Tensor) -> bool:
    return value.numel() > 0


def _is_matrix(value: Tensor) -> bool:
    return value.dim() == 2 and value.numel() > 0


def _is_float(value: Tensor) -> bool:
    return value.dtype in (torch.float32, torch.float64)


def _huge(value: Tensor, source: random.Random) -> Tensor:
    """Return a view of stride 0 with more elements than there is memory."""
    sizes = list(value.shape)
    sizes[source.randrange(len(sizes))] = source.choice(_HUGE)
    return value.flatten()[:1].as_strided(sizes, [0] * len(sizes))


def _freed(value: Tensor, source: random.Random) -> Tensor:
    """Return a tensor whose storage is given back, as FSDP leaves a parameter."""
    copy = value.clone()
    copy.untyped_storage().resize_(0)
    return copy


def _overlapping(value: Tensor, source: random.Random) -> Tensor:
    """Return rows that overlap: row i begins one element after row i - 1."""
    return value.flatten().as_strided((min(value.shape), min(value.shape)), (1, 1))


_CHANGES: list[tuple[Callable[[Tensor], bool], Change]] = [
    (_any, lambda value, source: value.to("meta")),
    (_any, lambda value, source: value[None]),
    (_any, lambda value, source: value.flatten()),
    (_any, lambda value, source: value.to(source.choice(_DTYPES))),
    (_any, lambda value, source: value * -1),
    (_any, lambda value, source: value + float("nan")),
    (_any, lambda value, source: torch._neg_view(value)),
    (_any, lambda value, source: value.to_sparse()),
    (_is_matrix, lambda value, source: value.to_sparse_csr()),
    (_is_matrix, lambda value, source: torch.nested.nested_tensor(list(value))),
    (
        _has_rows,
        lambda value, source: torch.nested.nested_tensor(
            [value, value[:1]], layout=source.choice([torch.strided, torch.jagged])
        ),
    ),
    (
        _is_float,
        lambda value, source: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
    ),
    (
        lambda value: value.dtype == torch.float32 and value.dim() > 0,
        lambda value, source: value.contiguous().to_mkldnn(),
    ),
    (_has_elements, _freed),
    (_is_matrix, _overlapping),
    (_is_matrix, lambda value, source: value.T),
    (lambda value: value.dim() > 0 and value.numel() > 0, _huge),
    (_has_rows, lambda value, source: value[..., :0]),
    (_has_rows, lambda value, source: value[:-1]),
    (_has_rows, lambda value, source: value[: len(value) // 2]),
    (_has_rows, lambda value, source: value[:1]),
    (_has_rows, lambda value, source: torch.cat([value, value])),
]
