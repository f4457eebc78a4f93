"""An encoder as a folder of the Hugging Face hub, in timm's form: config.json, model.safetensors.

timm loads it if it has the architecture under the same parameter names: `timm:NAME`, and ResNets
with the stem for ImageNet. `load_encoder` loads it in any case, by the section "simclr_ext".
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from simclr_ext import __version__
from simclr_ext.options.errors import CheckpointError
from simclr_ext.options.extras import require
from simclr_ext.options.serialize import from_plain, to_plain
from simclr_ext.trainer.atomic import replacing, write_text
from simclr_ext.trainer.config import ModelConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.config.model import RESNETS
from simclr_ext.trainer.model.encoders import STATISTICS, Encoder, network_channels, network_of
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.model.untrusted import check_network

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def timm_name(config: ResolvedConfig) -> str | None:
    """Return the name of timm's model that the encoder's weights fit; None: there is none."""
    model = config.model
    library, _, name = model.encoder.rpartition(":")
    if library == "timm":
        return name.partition(".")[0]  # without the name of weights
    if name not in RESNETS:
        return None
    same = model.stem == "imagenet" and model.width_multiplier == 1
    return name if library == "torchvision" or same else None


def named_weights(encoder: Encoder) -> dict[str, Tensor]:
    """Return the encoder's tensors by the names of torchvision's or timm's model."""
    return {name: value.contiguous() for name, value in network_of(encoder).state_dict().items()}


def write_hub(folder: Path, encoder: Encoder, config: ResolvedConfig) -> None:
    """Write config.json and model.safetensors into a folder, which is created if needed."""
    from safetensors.torch import save

    folder.mkdir(exist_ok=True)
    with replacing(folder / WEIGHTS) as file:
        # timm wants to know that the tensors are PyTorch's.
        file.write(save(named_weights(encoder), metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(_config(encoder, config), indent=2) + "\n")


def _config(encoder: Encoder, config: ResolvedConfig) -> dict[str, Any]:
    channels = network_channels(config.model, config.channels)
    mean, std = (values[:channels] for values in STATISTICS[config.model.normalize])
    resnet = timm_name(config) in RESNETS
    return {
        "architecture": timm_name(config) or config.model.encoder,
        "num_classes": 0,
        "num_features": encoder.dim,
        "pretrained_cfg": {
            "input_size": [channels, config.side, config.side],
            "interpolation": "bilinear",
            "crop_pct": 0.875,  # as `eval` does for image files
            "mean": mean,
            "std": std,
            "num_classes": 0,
            **({"first_conv": "conv1", "classifier": "fc"} if resnet else {}),
        },
        "simclr_ext": {
            "version": __version__,
            "channels": config.channels,
            "side": config.side,
            "model": to_plain(config.model),
        },
    }


def is_hub(folder: Path) -> bool:
    """Return whether a path is a folder that `write_hub` may have written."""
    return (folder / CONFIG).is_file()


def read_hub(folder: Path, module: nn.Module | None = None) -> Encoder:
    """Return the encoder of a folder that `write_hub` wrote, in evaluation mode, on the CPU.

    Args:
        folder: The folder.
        module: As for `load_checkpoint`.

    Raises:
        CheckpointError: A file is missing or damaged, or not written by `write_hub`.
        ConfigError: `module` is not an encoder for it.
        MissingArgumentError: `module` is needed, and None.
        MissingExtraError: safetensors is not installed.
    """
    require("safetensors", "safetensors", str(folder))
    from safetensors.torch import load_file

    path = folder / CONFIG
    try:
        written = json.loads(path.read_text(encoding="utf-8"))["simclr_ext"]
        side, channels = written["side"], written["channels"]
        model = from_plain(ModelConfig, written["model"])
        # The head is not in the folder.
        options = TrainConfig(model=replace(model, projection="none"), image_size=side)
        config = options.resolve(channels, side, side)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a configuration that simclr-ext export wrote ({_reason(error)})"
        ) from error
    try:
        weights = load_file(folder / WEIGHTS)
        check_network(config, weights)
    except Exception as error:  # reading a damaged file may raise any exception
        raise CheckpointError(
            f"{folder / WEIGHTS}: not the weights of {path} ({_reason(error)})"
        ) from error
    encoder = build_model(config, module).encoder.eval()
    try:
        network_of(encoder).load_state_dict(weights)
    except Exception as error:  # reading a damaged file may raise any exception
        raise CheckpointError(
            f"{folder / WEIGHTS}: not the weights of {path} ({_reason(error)})"
        ) from error
    encoder.channels, encoder.side = channels, side
    return encoder


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error).partition("\n")[0]
