"""The README.md of an exported folder: what the encoder is, how it was trained, how good it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from simclr_ext import __version__
from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.checkpoint import Checkpoint
from simclr_ext.trainer.model.encoders import network_channels
from simclr_ext.trainer.model.hub import timm_name
from simclr_ext.trainer.probes.tables import format_table, markdown_text, read_scores

_NORMALIZED = " `load_encoder` normalizes them; for timm, mean and std are in config.json."
_REPEATED = " For timm, gray images must be repeated to three colors."
_CARD = """---
{library}pipeline_tag: image-feature-extraction
tags:
- self-supervised
- simclr
---

# {encoder}, trained by SimCLR on {data}

An encoder of images, trained without labels by SimCLR
([arXiv 2002.05709](https://arxiv.org/abs/2002.05709)) with simclr-ext {version}, after epoch
{epoch} of {epochs}. It maps an image to a vector of {dim} numbers; it has no classifier.

## Accuracies

{accuracies}

## Use

Images are [B, {channels}, {side}, {side}], float32 in [0, 1].{inputs}

```python
from simclr_ext.trainer import load_encoder

encoder = load_encoder("FOLDER")
h = encoder(images)  # [B, {dim}]
```
{timm}
## Training

```yaml
{config}```
"""
_TIMM = """
```python
import timm

encoder = timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=0).eval()
h = encoder(images)  # [B, {dim}]
```
"""


def model_card(checkpoint: Checkpoint, source: Path) -> str:
    """Return the model card of an encoder.

    Args:
        checkpoint: The trained model.
        source: Its file; accuracies are read from evaluation.json beside it, if that is of the
            same step.

    Raises:
        CheckpointError: evaluation.json cannot be read.
    """
    config, dim = checkpoint.config, checkpoint.model.encoder.dim
    timm = timm_name(config) is not None
    inputs = _NORMALIZED if config.model.normalize == "imagenet" else ""
    if timm and network_channels(config.model, config.channels) != config.channels:
        inputs += _REPEATED
    return _CARD.format(
        library="library_name: timm\n" if timm else "",
        encoder=config.model.encoder,
        data=markdown_text(_name(config.data)),
        version=__version__,
        dim=dim,
        epoch=checkpoint.epoch,
        epochs=config.epochs,
        accuracies=_accuracies(checkpoint, source.parent / "evaluation.json"),
        channels=config.channels,
        side=config.side,
        inputs=inputs,
        timm=_TIMM.format(dim=dim) if timm else "",
        # Without line breaks in a name, which could end the block of code.
        config=yaml.safe_dump(_recipe(config), sort_keys=False, width=math.inf),
    )


def _recipe(config: ResolvedConfig) -> dict[str, Any]:
    """Return the options of a run, without this machine's paths."""
    values = config.options.to_dict()
    for name in ("data_root", "out", "device", "threads", "workers", "download"):
        del values[name]
    values["data"] = _name(config.data)
    values["init"] = config.init and _name(config.init)
    return values


def _name(path: str) -> str:
    """Return the last part of a path, or a name that is none, in one line."""
    return " ".join(Path(path).name.split())


def _accuracies(checkpoint: Checkpoint, path: Path) -> str:
    step = (checkpoint.training or {}).get("step")
    if path.is_file():
        try:
            evaluated, scores = read_scores(path)
            if evaluated == step:
                return format_table(scores)
        except Exception as error:  # what a program wrote may raise any exception
            raise CheckpointError(f"{path}: not an evaluation by train ({error!r})") from error
    return "Not evaluated."
