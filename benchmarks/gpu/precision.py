"""How views are stored and multiplied, and what that costs in accuracy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A dtype of the views, and for float32 how it is multiplied.

    Attributes:
        name: For people, and in the results.
        dtype: Dtype of the views.
        product: Relative rounding of the operands of the similarities.
        result: Relative rounding of the weights and of the result.
        least: Smallest positive number of the result.
        mode: ``torch.backends.cuda.matmul.fp32_precision``.
    """

    name: str
    dtype: torch.dtype
    product: float
    result: float
    least: float = 0.0
    mode: str = "ieee"


# The fused CUDA kernels multiply 22 of float32's 24 bits (3xTF32).
FLOAT32 = Precision("float32", torch.float32, 2**-22, 2**-23)
TF32 = Precision("float32 (tf32)", torch.float32, 2**-11, 2**-11, mode="tf32")
BFLOAT16 = Precision("bfloat16", torch.bfloat16, 2**-23, 2**-8)
FLOAT16 = Precision("float16", torch.float16, 2**-23, 2**-11, 2**-24)
FLOAT64 = Precision("float64", torch.float64, 2**-52, 2**-52)
PRECISIONS = {p.name: p for p in (BFLOAT16, FLOAT32, FLOAT16, TF32, FLOAT64)}


@contextlib.contextmanager
def fp32_precision(mode: str) -> Iterator[None]:
    """Multiply float32 matrices on CUDA in this mode, ``"ieee"`` or ``"tf32"``."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = mode
    try:
        yield
    finally:
        matmul.fp32_precision = before
