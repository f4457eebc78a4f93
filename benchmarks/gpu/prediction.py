"""What benchmarks/gpu/model.py predicts for a measurement: the only file that calls it."""

from __future__ import annotations

import csv
import functools

from benchmarks.gpu import model
from benchmarks.gpu.figures import BUSY, GPUS

_NAMES = {
    "bfloat16": "Bf16",
    "float16": "Fp16",
    "float32 (tf32)": "Tf32",
    "float32": "Tf32x3",
}
_MODELS = {"H100": "H100", "H200": "H100", "H800": "H100", "A100": "A100"}  # by the card's name


def milliseconds(card: str, precision: str, n: int, d: int) -> dict[str, float]:
    """Return the predicted time of each pass in a CUDA graph, {} where the model has none.

    Args:
        card: The GPU's name, as in "NVIDIA H100 80GB HBM3".
        precision: As in the results.
        n: N.
        d: D.
    """
    name = next((model for card_name, model in _MODELS.items() if card_name in card), None)
    width = next((width for width in (32, 64, 128, 256) if d <= width), None)
    if name is None or width is None:
        return {}
    gpu = GPUS[name]
    wanted = (gpu.arch, _NAMES.get(precision, ""), str(width))
    rows = {row["kernel"]: row for row in _instructions() if model.key(row) == wanted}
    return model.of_passes(rows, gpu, n, BUSY.value) if rows else {}


@functools.cache
def _instructions() -> list[dict[str, str]]:
    with model.SASS.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["shared_shift"] == "True"]
