"""Weights on disk: tensors by name, of a checkpoint, a state dict, or a library's download.

Nothing is downloaded here, and no code of a file is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor

from simclr_ext.options.errors import CheckpointError, ConfigError, MissingExtraError
from simclr_ext.options.extras import require
from simclr_ext.trainer.config.model import OTHERS
from simclr_ext.trainer.model.checkpoint import check_digest, checkpoint_path
from simclr_ext.trainer.model.encoders import STATISTICS
from simclr_ext.trainer.model.hub import WEIGHTS, is_hub
from simclr_ext.trainer.model.untrusted import load_tensors, named_tensors

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # timm's names on the hub

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Weights:
    """The tensors of a file.

    Attributes:
        path: The file.
        tensors: Dotted names to tensors on the CPU; those of nested dictionaries have their keys
            in front, such as "state_dict.conv1.weight".
        statistics: Mean and deviation of each color by which the weights expect the images to be
            normalized; None: not known.
    """

    path: Path
    tensors: dict[str, Tensor]
    statistics: Statistics | None = None


def absolute(source: str) -> str:
    """Return the name of weights with its path, if it has one, made absolute.

    Example:
        >>> absolute("timm:resnet18"), absolute("/weights/a.pt")
        ('timm:resnet18', '/weights/a.pt')
    """
    return source if source.startswith(OTHERS) else str(Path(source).expanduser().absolute())


def read_weights(source: str) -> Weights:
    """Return the weights that `init` names.

    Args:
        source: A checkpoint, a run folder or one for the hub, a state dict,
            "torchvision:NAME:WEIGHTS" or "timm:NAME".

    Raises:
        CheckpointError: The file is not there, is damaged, or has no tensors.
        ConfigError: The library has no such model or weights.
        MissingExtraError: timm or safetensors is needed and not installed.
    """
    library, _, name = source.partition(":")
    if library == "torchvision":
        path, statistics = _torchvision(name)
        return Weights(path, _tensors(_read(path), path), statistics)
    if library == "timm":
        path, statistics = _timm(name)
        return Weights(path, _tensors(_read(path), path), statistics)
    path = Path(source).expanduser()
    path = path / WEIGHTS if is_hub(path) else checkpoint_path(path)
    contents = _read(path)
    return Weights(path, _tensors(contents, path), _own_statistics(contents, path))


def _read(path: Path) -> Any:
    """Return the contents of a file."""
    if not path.is_file():
        raise CheckpointError(f"init: {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            require("safetensors", "safetensors", f"init: {path}")
            from safetensors.torch import load_file

            return load_file(path)
        with path.open("rb") as file:
            contents = load_tensors(file)
            if _is_checkpoint(contents):
                check_digest(file)
    except MissingExtraError:
        raise
    except Exception as error:  # reading a damaged file may raise any exception
        first_line = str(error).partition("\n")[0]
        reason = f"{type(error).__name__}: {first_line}".rstrip(": ")
        if isinstance(error, UnpicklingError) and "Unsupported" in str(error):
            reason = "it has more than tensors in it, which could run code; save a state dict alone"
        raise CheckpointError(f"init: {path}: not readable as weights ({reason})") from error
    return contents


def _is_checkpoint(contents: Any) -> bool:
    """Return whether the contents of a file are those of a checkpoint of this package."""
    keys = {"format", "config", "encoder", "head"}
    return isinstance(contents, dict) and keys <= contents.keys()


def _own_statistics(contents: Any, path: Path) -> Statistics | None:
    """Return by what a checkpoint of this package normalizes images; None: another file."""
    if not _is_checkpoint(contents):
        return None
    try:
        return STATISTICS[contents["config"]["model"].get("normalize", "none")]
    except (AttributeError, KeyError, TypeError):
        raise CheckpointError(f"init: {path}: its configuration names no model") from None


def _tensors(contents: Any, path: Path) -> dict[str, Tensor]:
    try:
        tensors = named_tensors(contents if isinstance(contents, Mapping) else {})
    except ValueError as error:
        raise CheckpointError(f"init: {path}: not readable as weights ({error})") from error
    if not tensors:
        kind = type(contents).__name__
        raise CheckpointError(
            f"init: {path}: must hold a state dict, tensors by name, got a {kind} without any"
        )
    return tensors


def _torchvision(name: str) -> tuple[Path, Statistics]:
    """Return where torch.hub keeps the weights NAME:WEIGHTS of torchvision."""
    model, _, chosen = name.partition(":")
    if model not in torchvision.models.list_models(torchvision.models):
        raise ConfigError(f"init must name a model of torchvision.models, got {model!r}")
    known = torchvision.models.get_model_weights(model)
    if chosen not in known.__members__:
        choices = ", ".join(f"torchvision:{model}:{weights}" for weights in known.__members__)
        raise ConfigError(f"init must be one of {choices}, got {f'torchvision:{name}'!r}")
    weights = known[chosen]
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    if not path.is_file():
        raise _not_on_disk(
            f"torchvision:{name}",
            [path],
            f"import torchvision; torchvision.models.get_model('{model}', weights='{chosen}')",
        )
    transform = weights.transforms()
    return path, (tuple(transform.mean), tuple(transform.std))


def _timm(name: str) -> tuple[Path, Statistics]:
    """Return where the Hugging Face hub's cache, or torch.hub, keeps the weights of timm's NAME."""
    try:
        import timm
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:
        raise MissingExtraError(f"init: timm:{name} needs it: pip install timm") from None
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None or not (config.hf_hub_id or config.url):
        raise ConfigError(f"init must name a model of timm with pretrained weights, got {name!r}")
    statistics = tuple(config.mean), tuple(config.std)
    looked: list[Path] = []
    if config.hf_hub_id:
        files = [config.hf_hub_filename] if config.hf_hub_filename else _HUB_FILES
        for file in files:
            found = try_to_load_from_cache(config.hf_hub_id, file)
            if isinstance(found, str):
                return Path(found), statistics
        cache = Path(constants.HF_HUB_CACHE)
        looked.append(cache / f"models--{config.hf_hub_id.replace('/', '--')}")
    if isinstance(config.url, str):
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(config.url).path).name
        if path.is_file():
            return path, statistics
        looked.append(path)
    command = f"import timm; timm.create_model('{name}', pretrained=True)"
    raise _not_on_disk(f"timm:{name}", looked, command)


def _not_on_disk(source: str, looked: list[Path], command: str) -> CheckpointError:
    places = " and ".join(map(str, looked))
    return CheckpointError(
        f'init: {source} is not on disk, looked for {places}; to download it: python -c "{command}"'
    )
