"""The pictures of a training: pairs of views, the loss curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from simclr_ext.trainer.atomic import replacing
from simclr_ext.trainer.data.png import visible, visible_note
from simclr_ext.trainer.probes.tsne import COLORS, DPI
from simclr_ext.trainer.training.state import Epoch


def plot_pairs(path: Path, images: Tensor, first: Tensor, second: Tensor) -> None:
    """Draw each image with its two views, a column per image.

    Args:
        path: PNG to write.
        images: [B, C, H, W] uint8.
        first: First views, [B, C, size, size] in [0, 1].
        second: Second views, as the first.
    """
    note = visible_note(images.shape[1])
    images, first, second = map(visible, (images, first, second))
    rows = {"image": images.float() / 255, "view 1": first, "view 2": second}
    figure = Figure(figsize=(0.8 * len(images) + 0.8, 2.9), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for line, (name, batch) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, batch, strict=True):
            _show(axis, image)
        line[0].set_ylabel(name)
    title = "Positive pairs: two random views of each image"
    figure.suptitle(f"{title}. {note}" if note else title, fontsize=11)
    with replacing(path) as file:
        figure.savefig(file, dpi=DPI)


def _show(axis: Axes, image: Tensor) -> None:
    pixels = image.permute(1, 2, 0).cpu().numpy()  # [H, W, C]
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def plot_loss(path: Path, epochs: Sequence[Epoch], batch_size: int) -> None:
    """Draw the mean loss of each epoch, and its chance level ln(2N - 1).

    Args:
        path: PNG to write.
        epochs: The run's measurements.
        batch_size: N.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.add_subplot()
    axis.plot([e.epoch for e in epochs], [e.loss for e in epochs], color=COLORS[0], lw=2)
    chance = float(np.log(2 * batch_size - 1))
    axis.axhline(chance, color=COLORS[8], ls="--", lw=1)
    axis.annotate(
        f"equal similarities: ln(2N - 1) = {chance:.2f}",
        (1, chance), (-4, -4), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="top", color=COLORS[8],
    )  # fmt: skip
    axis.set(xlabel="epoch", ylabel="NT-Xent loss", title="Training loss, mean of each epoch")
    axis.spines[["top", "right"]].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    with replacing(path) as file:
        figure.savefig(file, dpi=DPI)
