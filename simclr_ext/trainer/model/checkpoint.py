"""Checkpoints: the model's weights, its configuration, and the state to resume from.

A file is what torch.save writes, followed by its SHA-256 digest, which torch.load ignores.
"""

from __future__ import annotations

import hashlib
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import nn

from simclr_ext.options.errors import CheckpointError, MissingArgumentError, MissingExtraError
from simclr_ext.trainer.atomic import replacing
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.simclr import SimCLR, build_model, learned, not_finite
from simclr_ext.trainer.model.untrusted import check_network, load_tensors

_NAME = "checkpoint.pt"  # in a run folder
_FORMAT = 4
_CHUNK = 2**20  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """A trained model.

    Attributes:
        model: Encoder and projection head, in evaluation mode, on the CPU.
        config: The configuration that trained it.
        epoch: Number of epochs that it was trained for; the last one may be incomplete.
        training: State of the training (`Training.state_dict`); None: the file has none.
    """

    model: SimCLR
    config: ResolvedConfig
    epoch: int
    training: dict[str, Any] | None = None


def save_checkpoint(
    path: Path,
    model: SimCLR,
    config: ResolvedConfig,
    epoch: int,
    training: Mapping[str, Any] | None = None,
    previous: Path | None = None,
) -> None:
    """Write a checkpoint; a crash leaves the previous file or the whole new one.

    Args:
        path: File to write or replace.
        model: Encoder and projection head.
        config: The configuration that trains it.
        epoch: Epochs done.
        training: State of the training; None: the file holds the model only.
        previous: Path at which the replaced file is kept; None: it is not kept.
    """
    contents = {
        "format": _FORMAT,
        "config": config.to_dict(),
        "epoch": epoch,
        "encoder": model.encoder.state_dict(),
        "head": model.head.state_dict(),
        "training": None if training is None else dict(training),
    }
    with replacing(path, previous=previous) as file:
        hashed = _Hashed(file)
        torch.save(contents, cast(BinaryIO, hashed))
        file.write(hashed.digest.digest())


def checkpoint_path(path: str | Path) -> Path:
    """Return the checkpoint file of a path, which is that file or a run folder."""
    path = Path(path).expanduser()
    return path / _NAME if path.is_dir() else path


def load_checkpoint(path: str | Path, module: nn.Module | None = None) -> Checkpoint:
    """Read a checkpoint onto the CPU, without executing code from the file.

    Args:
        path: The file.
        module: The user's own encoder, if the model has one; a copy of it gets the weights.

    Raises:
        CheckpointError: The file is missing or damaged, not a checkpoint of this package and
            format, or does not fit `module`.
        ConfigError: `module` is not an encoder for it.
        MissingArgumentError: `module` is needed, and None.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            check_digest(file)
            contents = load_tensors(file)
    except FileNotFoundError:
        kind = "checkpoint" if path.name == _NAME else "run folder or checkpoint"
        raise CheckpointError(f"{path}: no such {kind}") from None
    except Exception as error:  # reading a damaged file may raise any exception
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(contents, dict) or contents.get("format") != _FORMAT:
        found = contents.get("format") if isinstance(contents, dict) else type(contents).__name__
        raise CheckpointError(
            f"{path}: checkpoint format must be {_FORMAT}, got {found!r}: use the version of "
            "simclr-ext that wrote it"
        )
    try:
        return _build(contents, module)
    except MissingExtraError:
        raise
    except MissingArgumentError as error:
        raise MissingArgumentError(f"{path}: {error}") from None
    except Exception as error:  # what a program wrote may raise any exception
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        fitting = "this package" if module is None else "the given encoder"
        short = textwrap.shorten(reason, 200)  # a network's list of its weights is long
        raise CheckpointError(f"{path}: not a checkpoint that fits {fitting} ({short})") from error


def _build(contents: dict[str, Any], module: nn.Module | None) -> Checkpoint:
    """Return the model in a file's contents; any error means that they are not a checkpoint's."""
    config = ResolvedConfig.from_dict(contents["config"])
    check_network(config, contents["encoder"], contents["head"])
    # In the run's memory layout: another sums in another order, and differs in the last bits.
    model = build_model(config, module)
    model.encoder.load_state_dict(contents["encoder"])
    model.head.load_state_dict(contents["head"])
    if broken := not_finite(learned(model)):
        raise ValueError(f"{broken[0]} is not finite")
    epoch, training = contents["epoch"], contents["training"]
    if not isinstance(epoch, int) or not isinstance(training, dict | None):
        raise TypeError(f"epoch {epoch!r:.20}, and the state is a {type(training).__name__}")
    return Checkpoint(model.eval(), config, epoch, training)


class _Hashed:
    """A file for torch.save, which hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, part: bytes) -> int:
        self.digest.update(part)
        return self._file.write(part)

    def flush(self) -> None:
        self._file.flush()


def check_digest(file: BinaryIO) -> None:
    """Raise ValueError unless a file ends with the digest of everything before it.

    torch.load reads flipped bits as weights: it verifies no checksum, and the zip archive's
    checksums do not cover its directory.
    """
    digest = hashlib.sha256()
    size = file.seek(0, os.SEEK_END) - digest.digest_size
    file.seek(0)
    for start in range(0, size, _CHUNK):
        digest.update(file.read(min(_CHUNK, size - start)))
    if file.read() != digest.digest():
        raise ValueError("damaged, or written by another program")
