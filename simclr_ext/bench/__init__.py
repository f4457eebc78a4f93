"""Time the loss and its alternatives: `simclr-ext bench`, and the basis of benchmarks/.

Importable with the loss's own dependencies; torch is imported when something is timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simclr_ext.bench.config import BenchConfig

if TYPE_CHECKING:
    from simclr_ext.bench.command import BenchResult

__all__ = ["BenchConfig", "run_bench"]


def run_bench(config: BenchConfig) -> BenchResult:
    """Time the backends that run here, eager PyTorch and `torch.compile`, in the same rounds.

    Each is first compared with float64; one that is wrong, or runs out of memory, is not timed.
    With `threads` set, PyTorch uses that many threads during the measurement.

    Args:
        config: The shape, and how it is computed.

    Returns:
        Times, memory and a recommendation.

    Raises:
        DeviceError: `config.device` cannot be used.
    """
    from simclr_ext.bench.command import run

    return run(config)
