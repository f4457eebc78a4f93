"""What is taken out of a trained model: representations, the encoder in other formats, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simclr_ext.trainer.config.checks import check, check_at_least
from simclr_ext.trainer.config.evaluate import CheckpointConfig

Format = Literal["state-dict", "safetensors", "pt2", "onnx"]


@dataclass(frozen=True)
class EmbedConfig(CheckpointConfig):
    """Representations of all images.

    Attributes:
        format: "npy", three arrays for each part of the data set, or "parquet", one table.
        head_layers: Linear layers of the projection head that are part of the representation.
    """

    format: Literal["npy", "parquet"] = "npy"
    head_layers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("head_layers", self.head_layers, 0)


@dataclass(frozen=True)
class ExportConfig(CheckpointConfig):
    """The encoder in other formats.

    Attributes:
        formats: "state-dict" (.pt), "safetensors", "pt2" (torch.export), "onnx". The names in the
            first two are torchvision's where the encoder is one of its models.
    """

    formats: tuple[Format, ...] = ("state-dict",)

    def __post_init__(self) -> None:
        super().__post_init__()
        ok = len(self.formats) > 0 and len(set(self.formats)) == len(self.formats)
        check(ok, "formats", self.formats, "one or more, each once")


@dataclass(frozen=True)
class PagesConfig(CheckpointConfig):
    """Pictures of the representations.

    Attributes:
        queries: Test images on the page of nearest neighbours.
        neighbours: Training images beside each of them.
    """

    queries: int = 20
    neighbours: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("queries", self.queries, 1)
        check_at_least("neighbours", self.neighbours, 1)
