"""Tensors between inaccessible pages: a read outside of one, or a write to it, is a crash."""

from __future__ import annotations

import ctypes
import math
import mmap

import torch
from torch import Tensor

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_NO_ACCESS = 0
_LARGEST = 2**28  # bytes; a view of stride 0 may have the size of all memory
_mappings: list[mmap.mmap] = []


def is_guardable(value: object) -> bool:
    """Return whether it is a plain tensor with data in the host's memory."""
    if not isinstance(value, Tensor) or value.is_nested or value.layout is not torch.strided:
        return False
    if value.device.type != "cpu" or value.is_quantized or value.is_neg() or value.is_conj():
        return False
    elements = math.prod(value.shape)  # may be more than torch can count
    has_data = value.untyped_storage().nbytes() > 0 or elements == 0
    return has_data and elements * value.element_size() < _LARGEST


def guarded(values: Tensor, *, at_end: bool) -> Tensor:
    """Return a read-only copy of a tensor, with its strides, next to a guard page.

    It ends right before the page, or begins right after one.
    """
    spans = zip(values.shape, values.stride(), strict=True)
    elements = 1 + sum((size - 1) * stride for size, stride in spans) if values.numel() else 0
    used = elements * values.element_size()
    inner = max(1, -(-used // mmap.PAGESIZE)) * mmap.PAGESIZE
    mapping = mmap.mmap(-1, inner + 2 * mmap.PAGESIZE)
    _mappings.append(mapping)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    first = begin + mmap.PAGESIZE
    start = first + (inner - used if at_end else 0)
    if elements:
        flat = torch.frombuffer(
            (ctypes.c_char * used).from_address(start), dtype=values.dtype, count=elements
        )
        # The storage as it is, also where elements overlap.
        flat.copy_(values.as_strided((elements,), (1,)))
        copy = flat.as_strided(values.shape, values.stride(), 0)
    else:
        copy = values.new_empty(values.shape)
    for page in (begin, first + inner):
        _protect(page, mmap.PAGESIZE, _NO_ACCESS)
    _protect(first, inner, mmap.PROT_READ)
    return copy


def release() -> None:
    """Forget the memory of all guarded tensors, which must not be used any more."""
    _mappings.clear()


def _protect(address: int, size: int, access: int) -> None:
    if _LIBC.mprotect(address, size, access) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
