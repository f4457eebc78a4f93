"""The shape to time; importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simclr_ext.options.checks import (
    check_at_least,
    check_null_or_at_least,
    check_positive,
    check_scale,
    check_types,
)


@dataclass(frozen=True)
class BenchConfig:
    """The shape to time the loss at.

    Attributes:
        n: N, pairs in the batch.
        d: D, size of an embedding.
        dtype: Of the views.
        temperature: T.
        backward: Whether the gradients of both views are part of what is timed.
        device: PyTorch device, such as "cpu" or "cuda".
        threads: CPU threads of PyTorch, at most one per processor; null: PyTorch's own choice.
        seconds: About how long to measure; three rounds at least.
    """

    n: int = 4096
    d: int = 128
    dtype: Literal["float64", "float32", "bfloat16", "float16"] = "float32"
    temperature: float = 0.5
    backward: bool = True
    device: str = "cpu"
    threads: int | None = None
    seconds: float = 20.0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("n", "d"):
            check_at_least(name, getattr(self, name), 1)
        check_scale("temperature", self.temperature)
        check_positive("seconds", self.seconds)
        check_null_or_at_least("threads", self.threads, 1)
