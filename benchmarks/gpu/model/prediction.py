"""What the model predicts for a measurement: the only file of it that gpu_check calls."""

from __future__ import annotations

from benchmarks.gpu.model import fused, wide
from benchmarks.gpu.model.figures import BUSY, GPUS
from benchmarks.gpu.model.instructions import WIDTHS, bytes_per_element, kernels, of_file

_NAMES = {
    "bfloat16": "Bf16",
    "float16": "Fp16",
    "float32 (tf32)": "Tf32",
    "float32": "Tf32x3",
}
# By the card's name; an L40 multiplies at half the rate of an L40S.
_MODELS = {"H100": "H100", "H200": "H200", "H800": "H100", "A100": "A100", "L40S": "L40S"}


def milliseconds(card: str, precision: str, n: int, d: int) -> dict[str, float]:
    """Return the predicted time of each pass in a CUDA graph, {} where the model has none.

    Args:
        card: The GPU's name, as in "NVIDIA H100 80GB HBM3".
        precision: As in the results.
        n: N.
        d: D.
    """
    name = next((model for card_name, model in _MODELS.items() if card_name in card), None)
    if name is None:
        return {}
    gpu, kind = GPUS[name], _NAMES.get(precision, "")
    if d > max(WIDTHS):
        halves = bytes_per_element(kind) == 2
        return wide.of_passes(gpu, wide.square(2 * n), 2 * n, d) if halves else {}
    chosen = kernels(gpu.arch, kind, d, of_file())
    return fused.of_passes(chosen, gpu, n, BUSY.value) if chosen else {}
