"""`simclr-ext embed`: the representations of all images, with ids and labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from simclr_ext.options.extras import require
from simclr_ext.trainer.atomic import replacing
from simclr_ext.trainer.commands.session import open_session
from simclr_ext.trainer.config.commands import EmbedConfig
from simclr_ext.trainer.data import Part
from simclr_ext.trainer.probes.features import Features, encode


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


def run_embed(config: EmbedConfig, module: nn.Module | None = None) -> EmbedResult:
    """Write the representations; see `simclr_ext.trainer.embed_images`."""
    if config.format == "parquet":
        require("pyarrow", "parquet", "format: parquet")
    files: list[Path] = []
    with open_session(config, module, split=False) as session:
        data = session.data
        folder = session.folder(config.out, f"embed-{data.name}")
        encoder, dim = session.encoder(config.head_layers)
        for name, part in data.parts.items():
            stem = name if len(data.parts) > 1 else "images"
            features = encode(encoder, part.images, session.side)
            if config.format == "npy":
                files += _write_npy(folder, stem, features, part)
            else:
                files.append(folder / f"{stem}.parquet")
                _write_parquet(files[-1], features, part, data.class_names)
    return EmbedResult(tuple(files), dim)


def _write_npy(folder: Path, stem: str, features: Features, part: Part) -> list[Path]:
    ids = np.char.decode(part.ids, "utf-8", "surrogateescape")
    arrays = {"embeddings": features, "labels": part.labels.numpy(), "ids": ids}
    paths = [folder / f"{stem}-{name}.npy" for name in arrays]
    for path, array in zip(paths, arrays.values(), strict=True):
        with replacing(path) as file:
            np.save(file, array)
    return paths


def _write_parquet(
    path: Path, features: Features, part: Part, class_names: tuple[str, ...]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    names = (*class_names, None)  # the last is that of NO_LABEL, -1
    columns = {
        "id": pa.array(list(map(os.fsdecode, part.ids))),
        "label": pa.array(part.labels.numpy()),
        "class_name": pa.array([names[label] for label in part.labels], pa.string()),
        "embedding": vectors,
    }
    with replacing(path) as file:
        parquet.write_table(pa.table(columns), file)
