"""The encoder and the projection head."""

from __future__ import annotations

from dataclasses import dataclass

from simclr_ext.trainer.config.checks import check, check_types


@dataclass(frozen=True)
class ModelConfig:
    """The encoder, a ResNet for small images, and the projection head on top of it.

    Attributes:
        width: Channels of the first stage; each further stage doubles them.
        blocks: Residual blocks of each stage; each stage after the first halves the side.
        projection_hidden: Width of the projection head's hidden layer; null: that of h.
        projection_dim: Dimension of the head's output z, on which the loss acts.
    """

    width: int = 16
    blocks: tuple[int, ...] = (1, 1, 1)
    projection_hidden: int | None = None
    projection_dim: int = 128

    def __post_init__(self) -> None:
        check_types(self, "model.")
        check(self.width >= 1, "model.width", self.width, "at least 1")
        ok = len(self.blocks) >= 1 and min(self.blocks) >= 1
        check(ok, "model.blocks", self.blocks, "one or more stages of at least 1 block")
        hidden = self.projection_hidden
        ok = hidden is None or hidden >= 1
        check(ok, "model.projection_hidden", hidden, "null or at least 1")
        check(self.projection_dim >= 1, "model.projection_dim", self.projection_dim, "at least 1")
