"""Times the loss and its alternatives: `simclr-ext bench`, and what benchmarks/ is built on.

Importable with torch alone.
"""

from simclr_ext.bench.command import BenchConfig, BenchResult, run_bench

__all__ = ["BenchConfig", "BenchResult", "run_bench"]
