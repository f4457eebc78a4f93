"""Checks and times the loss on an NVIDIA GPU: python benchmarks/gpu_check.py --minutes 8.

Runs in a fresh checkout, with torch and a CUDA toolkit. docs/gpu.md says what it does and writes;
the parts are in benchmarks/gpu/.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, which may not be installed

from benchmarks.gpu.main import main  # noqa: E402 - found only now

if __name__ == "__main__":
    sys.exit(main())
