"""Health of the training: warnings of what looks wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from simclr_ext.trainer.training.state import Epoch


class TrainingWarning(UserWarning):
    """The training does not look healthy."""


def problems(epoch: Epoch, batch_size: int) -> dict[str, str]:
    """Return what is wrong with an epoch: a short name of each problem, and a sentence."""
    found = {}
    chance = math.log(2 * batch_size - 1)
    if epoch.loss > chance - 0.02:
        found["chance"] = (
            f"the loss, {epoch.loss:.3f}, is at its chance level, ln(2N - 1) = {chance:.3f}: try "
            "another learning rate, or weaker augmentations"
        )
    if epoch.embedding_std < 0.1 or epoch.effective_rank < 2:
        found["collapse"] = (
            f"the embeddings collapse: their spread is {epoch.embedding_std:.3f} of 1, their "
            f"effective rank {epoch.effective_rank:.1f}: try a lower learning rate or temperature"
        )
    return found


def warn_of_new_problems(epochs: Sequence[Epoch], batch_size: int, warmup_epochs: float) -> None:
    """Warn of problems that are new since the last epoch.

    Nothing is said of the first epoch or of the warmup: what persists after them is new.
    """
    quiet = max(1, warmup_epochs)
    if len(epochs) <= quiet:
        return
    before = {} if len(epochs) - 1 <= quiet else problems(epochs[-2], batch_size)
    for name, sentence in problems(epochs[-1], batch_size).items():
        if name not in before:
            text = f"epoch {epochs[-1].epoch}: {sentence}"
            warnings.warn(text, TrainingWarning, stacklevel=2)
