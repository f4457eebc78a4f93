"""Trained encoders in one line, from every place that holds one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer import load_encoder
from simclr_ext.trainer.model.checkpoint import load_checkpoint


def test_a_run_folder_and_a_checkpoint(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    expected = load_checkpoint(path).model.encoder
    images = torch.rand(2, 3, 8, 8)
    for source in (path, str(path), path.parent):
        encoder = load_encoder(source)
        assert not encoder.training
        assert (encoder.channels, encoder.side, encoder.dim) == (3, 8, 8)
        assert torch.equal(encoder(images), expected(images))


def test_what_holds_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none: no such run folder or checkpoint"):
        load_encoder(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: no such checkpoint"):
        load_encoder(tmp_path)
