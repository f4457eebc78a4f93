"""`simclr-ext embed`: the representations of all images, with ids and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simclr_ext.options.extras import require
from simclr_ext.trainer.atomic import replacing
from simclr_ext.trainer.commands.session import open_session
from simclr_ext.trainer.config.commands import EmbedConfig
from simclr_ext.trainer.probes.features import Features, Labels, encode


@dataclass(frozen=True)
class EmbedResult:
    """The written representations.

    Attributes:
        files: The files, those of the training images first.
        dim: Dimension of the representations.
    """

    files: tuple[Path, ...]
    dim: int

    def __str__(self) -> str:
        """Return what the command line prints."""
        return "\n".join([f"representations of {self.dim} dimensions:", *map(str, self.files)])


def run_embed(config: EmbedConfig) -> EmbedResult:
    """Write the representations; see `simclr_ext.trainer.embed_images`."""
    if config.format == "parquet":
        require("pyarrow", "parquet", "format: parquet")
    files: list[Path] = []
    with open_session(config) as session:
        data = session.data
        folder = session.folder(config.out, f"embed-{data.name}")
        encoder, dim = session.encoder(config.head_layers)
        for part, images, labels in (
            ("train", data.train_images, data.train_labels),
            ("test", data.test_images, data.test_labels),
        ):
            features = encode(encoder, images, session.side)
            if config.format == "npy":
                files += _write_npy(folder, part, features, labels.numpy())
            else:
                path = folder / f"{part}.parquet"
                _write_parquet(path, features, labels.numpy(), data.class_names)
                files.append(path)
    return EmbedResult(tuple(files), dim)


def _write_npy(folder: Path, part: str, features: Features, labels: Labels) -> list[Path]:
    arrays: dict[str, Features | Labels] = {
        "embeddings": features,
        "labels": labels,
        "ids": np.arange(len(labels)),
    }
    paths = [folder / f"{part}-{name}.npy" for name in arrays]
    for path, array in zip(paths, arrays.values(), strict=True):
        with replacing(path) as file:
            np.save(file, array)
    return paths


def _write_parquet(
    path: Path, features: Features, labels: Labels, class_names: tuple[str, ...]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    columns = {
        "id": pa.array(np.arange(len(labels))),
        "label": pa.array(labels),
        "class_name": pa.array([class_names[label] for label in labels]),
        "embedding": vectors,
    }
    parquet.write_table(pa.table(columns), path)
