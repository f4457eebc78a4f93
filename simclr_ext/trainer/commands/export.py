"""`simclr-ext export`: the encoder for other programs, each file loaded back and compared."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from simclr_ext.options.errors import ExportError, RunFolderError, StorageError
from simclr_ext.options.extras import require
from simclr_ext.trainer.atomic import replacing, write_text
from simclr_ext.trainer.commands.model_card import model_card
from simclr_ext.trainer.config.commands import ExportConfig
from simclr_ext.trainer.config.model import RESNETS
from simclr_ext.trainer.model.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from simclr_ext.trainer.model.custom import Custom
from simclr_ext.trainer.model.encoders import network_channels, network_of
from simclr_ext.trainer.model.hub import (
    CONFIG,
    WEIGHTS,
    named_weights,
    read_hub,
    timm_name,
    write_hub,
)

# Largest deviation from the encoder's h allowed, as a fraction of the largest |h|. The weights are
# unchanged, but convolutions in another memory layout, or fused ones, round differently.
_TOLERANCE = {"state-dict": 1e-5, "safetensors": 1e-5, "pt2": 1e-5, "onnx": 1e-4, "hub": 1e-5}
_NAME = {
    "state-dict": "encoder.pt",
    "safetensors": "encoder.safetensors",
    "pt2": "encoder.pt2",
    "onnx": "encoder.onnx",
    "hub": "hub",
}


@dataclass(frozen=True)
class ExportResult:
    """The exported files.

    Attributes:
        files: Name of each format to its file; to the folder of "hub".
        errors: Name of each format to its largest deviation, as a fraction of the largest |h|.
        loads_into: What the weights of "state-dict" and "safetensors" can be loaded into.
    """

    files: dict[str, Path]
    errors: dict[str, float]
    loads_into: str

    def __str__(self) -> str:
        """Return what the command line prints."""
        lines = [
            f"{name}: {path} (loaded back: deviation {self.errors[name]:.1e}, allowed "
            f"{_TOLERANCE[name]:.0e})"
            for name, path in self.files.items()
        ]
        return "\n".join([*lines, f"weights load into {self.loads_into}"])


def run_export(config: ExportConfig, module: nn.Module | None = None) -> ExportResult:
    """Write and check the files; see `simclr_ext.trainer.export_encoder`."""
    for name in ("safetensors", "hub"):
        if name in config.formats:
            require("safetensors", "safetensors", f"formats: {name}")
    if "onnx" in config.formats:
        for package in ("onnx", "onnxruntime", "onnxscript"):
            require(package, "onnx", "formats: onnx")
    source = checkpoint_path(config.checkpoint)
    checkpoint = load_checkpoint(source, module)
    folder = Path(config.out).expanduser() if config.out else source.parent / "export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out: cannot create {folder}: {error.strerror}") from error

    encoder, side = checkpoint.model.encoder.eval(), checkpoint.config.side
    generator = torch.Generator().manual_seed(config.seed)
    # Three images: not the batch size of the trace.
    images = torch.rand(3, checkpoint.config.channels, side, side, generator=generator)
    with torch.no_grad():
        expected = encoder(images)
    files: dict[str, Path] = {}
    errors: dict[str, float] = {}
    for name in config.formats:
        path = folder / _NAME[name]
        found = _WRITERS[name](path, checkpoint, images)
        errors[name] = float((found - expected).abs().max() / expected.abs().max())
        if not errors[name] <= _TOLERANCE[name]:
            _remove(path)
            raise ExportError(
                f"{name}: the written file deviates by {errors[name]:.1e} of the largest |h|, more "
                f"than {_TOLERANCE[name]:.0e}; the file was removed"
            )
        files[name] = path
        if name == "hub":
            write_text(path / "README.md", model_card(checkpoint, source))
    return ExportResult(files, errors, _loads_into(checkpoint))


def _remove(path: Path) -> None:
    """Remove a file, or the encoder in a folder for the hub; the folder may hold other files."""
    for file in (path / CONFIG, path / WEIGHTS) if path.is_dir() else (path,):
        file.unlink()


def _loads_into(checkpoint: Checkpoint) -> str:
    """Return the network that takes the weights, for readers."""
    if checkpoint.config.model.encoder == "custom":
        return "your own module"
    timm = timm_name(checkpoint.config)
    other = f"timm's {timm}" if timm else "this package's encoder"
    return _torchvision_name(checkpoint) or other


def _torchvision_name(checkpoint: Checkpoint) -> str | None:
    """Return the function of torchvision.models whose network the weights fit; None: none."""
    model = checkpoint.config.model
    library, _, name = model.encoder.partition(":")
    if library == "torchvision":
        return f"torchvision.models.{name}"
    same = (
        model.encoder in RESNETS
        and model.stem == "imagenet"
        and model.width_multiplier == 1
        and network_channels(model, checkpoint.config.channels) == 3
    )
    return f"torchvision.models.{model.encoder}" if same else None


def _load(weights: dict[str, Tensor], checkpoint: Checkpoint) -> Callable[[Tensor], Tensor]:
    """Return a new network that computes h with the weights: torchvision's, if they fit it."""
    name = _torchvision_name(checkpoint)
    model = copy.deepcopy(checkpoint.model.encoder)
    if name is None:
        network_of(model).load_state_dict(weights)
        return model.eval()
    network = torchvision.models.get_model(name.rpartition(".")[2], weights=None)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    classifier = {key.rpartition(".")[0] for key in missing}  # the encoder has none
    if unexpected or len(classifier) != 1:
        raise ExportError(f"the weights do not fit {name}: missing {missing}, extra {unexpected}")
    parent, _, attribute = classifier.pop().rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    network.eval()
    return lambda images: network(model.normalize(images.expand(-1, 3, -1, -1)))


@torch.no_grad()
def _state_dict(path: Path, checkpoint: Checkpoint, images: Tensor) -> Tensor:
    with replacing(path) as file:
        torch.save(named_weights(checkpoint.model.encoder), file)
    return _load(torch.load(path, weights_only=True), checkpoint)(images)


@torch.no_grad()
def _safetensors(path: Path, checkpoint: Checkpoint, images: Tensor) -> Tensor:
    from safetensors.torch import load_file, save

    with replacing(path) as file:
        file.write(save(named_weights(checkpoint.model.encoder)))
    return _load(load_file(path), checkpoint)(images)


def _exported(checkpoint: Checkpoint, images: Tensor) -> Any:
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    return torch.export.export(checkpoint.model.encoder, (images[:2],), dynamic_shapes=shapes)


def _pt2(path: Path, checkpoint: Checkpoint, images: Tensor) -> Tensor:
    with replacing(path) as file:
        torch.export.save(_exported(checkpoint, images), file)
    found: Tensor = torch.export.load(path).module()(images)
    return found.detach()


def _onnx(path: Path, checkpoint: Checkpoint, images: Tensor) -> Tensor:
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself
        program = torch.onnx.export(
            _exported(checkpoint, images), input_names=["images"], output_names=["h"], verbose=False
        )
    if program is None:
        raise ExportError("onnx: torch.onnx.export returned nothing")
    try:
        program.save(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["h"], {"images": images.numpy()})
    return torch.from_numpy(np.asarray(found))


@torch.no_grad()
def _hub(path: Path, checkpoint: Checkpoint, images: Tensor) -> Tensor:
    write_hub(path, checkpoint.model.encoder, checkpoint.config)
    encoder = checkpoint.model.encoder
    module = encoder.model if isinstance(encoder, Custom) else None
    found: Tensor = read_hub(path, module)(images)
    return found


_WRITERS = {
    "state-dict": _state_dict,
    "safetensors": _safetensors,
    "pt2": _pt2,
    "onnx": _onnx,
    "hub": _hub,
}
