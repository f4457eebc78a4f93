"""The embed command: both formats hold the representations, ids and labels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simclr_ext.options import extras
from simclr_ext.options.errors import MissingExtraError
from simclr_ext.trainer.api import embed_images
from simclr_ext.trainer.config.commands import EmbedConfig
from simclr_ext.trainer.data import load_data
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from simclr_ext.trainer.probes.features import Features, encode


def expected(path: Path) -> Features:
    checkpoint = load_checkpoint(path)
    images = load_data(checkpoint.config.data).test.images
    return encode(checkpoint.model.encoder, images, checkpoint.config.side)


def test_npy(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    result = embed_images(EmbedConfig(str(path)))
    assert result.dim == 8
    arrays = {file.stem: np.load(file) for file in result.files}
    assert np.array_equal(arrays["test-embeddings"], expected(path))
    assert arrays["train-embeddings"].shape == (24, 8)
    assert arrays["test-labels"].tolist() == [0, 1, 2] * 3
    assert arrays["train-ids"].tolist() == list(map(str, range(24)))


def test_parquet(write_checkpoint: Callable[..., Path]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_checkpoint()
    result = embed_images(EmbedConfig(str(path), format="parquet"))
    table = parquet.read_table(result.files[1])
    assert table.column_names == ["id", "label", "class_name", "embedding"]
    assert table["class_name"].to_pylist() == ["ant", "bee", "cat"] * 3
    assert table["id"].to_pylist() == list(map(str, range(9)))
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    assert np.array_equal(vectors, expected(path))


def test_parquet_without_pyarrow(
    write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda n: None if n == "pyarrow" else find(n))
    path = write_checkpoint()
    with pytest.raises(MissingExtraError, match=r"pip install 'simclr-ext\[parquet\]'"):
        embed_images(EmbedConfig(str(path), format="parquet"))
    assert not (path.parent / "embed-tiny").exists()
