"""The model before training: random, or with the weights that `init` names."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from simclr_ext.trainer.model.encoders import STATISTICS, network_of
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.model.weights import Weights, read_weights

INITIAL = "initial.pt"  # in a run folder: the weights before the first step, if they were given
_SHOWN = 3  # tensors that a list names; the others are counted
_CLASSIFIERS = ("fc.", "classifier.", "heads.", "head.")  # torchvision's and timm's


@dataclass(frozen=True)
class InitReport:
    """What was loaded into a model.

    Attributes:
        path: The file.
        encoder: Tensors of the encoder that were loaded, and those that it has.
        head: The same of the projection head.
        changed: Names of loaded tensors that were changed, with what was done to them.
        left_out: Names of tensors that were not loaded, with the reason: of the encoder, and of the
            head if the file has one.
        unused: Names of tensors in the file that the encoder does not have, with the reason.
    """

    path: Path
    encoder: tuple[int, int]
    head: tuple[int, int]
    changed: dict[str, str]
    left_out: dict[str, str]
    unused: dict[str, str]

    def __str__(self) -> str:
        """Return the line that is shown at the start of a run."""
        parts = [
            f"init: {self.encoder[0]} of {self.encoder[1]} tensors of the encoder and "
            f"{self.head[0]} of {self.head[1]} of the head from {self.path}"
        ]
        lists = {"changed": self.changed, "left random": self.left_out, "not used": self.unused}
        parts += [f"{title}: {_listed(names)}" for title, names in lists.items() if names]
        return "; ".join(parts)


def initial_model(config: ResolvedConfig, folder: Path, module: nn.Module | None = None) -> SimCLR:
    """Return the model of a run before its first step, on the CPU.

    Args:
        config: The run.
        folder: The run folder; its initial.pt is read if the weights were given.
        module: As for `load_checkpoint`.

    Raises:
        CheckpointError: initial.pt is missing or damaged.
    """
    if not config.weights_are_given:
        return build_model(config)
    path = folder / INITIAL
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; it has the weights before training")
    return load_checkpoint(path, module).model


def initialize(model: SimCLR, config: ResolvedConfig) -> InitReport:
    """Load the weights that `config.init` names into a model; others keep their random values.

    A first convolution for another number of channels is converted: summed over the file's
    channels for gray images, which gives the same h as gray images repeated to these channels; and
    a gray one is divided among the channels, which gives the h of their mean.

    Raises:
        CheckpointError: As for `read_weights`, or no tensor of the encoder fits.
        ConfigError: As for `read_weights`.
        MissingExtraError: As for `read_weights`.
    """
    weights = read_weights(str(config.init))
    network = network_of(model.encoder)
    prefix = _common_prefix(weights.tensors, network.state_dict())
    given = _below(weights.tensors, prefix)
    encoder = _Fit(network, given, weights.path)
    if not any(name in encoder.values for name, _ in network.named_parameters()):
        raise CheckpointError(
            f"init: {weights.path}: no tensor fits the encoder, {config.model.encoder}; the file "
            f"has {_listed(dict.fromkeys(weights.tensors, ''))}"
        )
    # Only a checkpoint of this package has a projection head in the same file.
    heads = _below(weights.tensors, "head.") if prefix.startswith("encoder.") else {}
    head = _Fit(model.head, heads, weights.path)
    left_out_of_head = {f"head.{name}": why for name, why in head.left_out.items() if heads}
    for fit in (encoder, head):
        fit.load()
    _warn_of_normalization(weights, config)
    unused = [name for name in given if name not in network.state_dict()]
    return InitReport(
        weights.path,
        (len(encoder.values), len(network.state_dict())),
        (len(head.values), len(model.head.state_dict())),
        encoder.changed,
        {**encoder.left_out, **left_out_of_head},
        {name: "a classifier" if name.startswith(_CLASSIFIERS) else "" for name in unused},
    )


class _Fit:
    """The tensors of a file that fit a module.

    Args:
        module: Takes the tensors.
        given: The file's tensors, by the module's names.
        path: The file, for messages.

    Attributes:
        values: Name of each tensor of the module that has a value in the file, to this value.
        changed: What was done to some of them.
        left_out: Why the others have none.
    """

    def __init__(self, module: nn.Module, given: Mapping[str, Tensor], path: Path) -> None:
        self._module = module
        self.values: dict[str, Tensor] = {}
        self.changed: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        convolutions = (n for n, layer in module.named_modules() if isinstance(layer, nn.Conv2d))
        first = f"{next(convolutions, '')}.weight"
        for name, own in module.state_dict().items():
            value = given.get(name)
            if value is not None and name == first and (done := _other_channels(value, own)):
                value, self.changed[name] = done
            if value is None:
                self.left_out[name] = "not in the file"
            elif value.shape != own.shape:
                theirs, ours = list(value.shape), list(own.shape)
                self.left_out[name] = f"{theirs} in the file, {ours} in the model"
            elif not value.isfinite().all():
                raise CheckpointError(f"init: {path}: {name} is not finite")
            else:
                self.values[name] = value

    def load(self) -> None:
        """Copy the values into the module."""
        self._module.load_state_dict(self.values, strict=False)


def _other_channels(value: Tensor, own: Tensor) -> tuple[Tensor, str] | None:
    """Return a convolution's weight for another number of channels, and what was done to it.

    None if the shapes differ in another way, or not at all.
    """
    if value.ndim != 4 or value[:, :1].shape != own[:, :1].shape or value.shape == own.shape:
        return None
    theirs, ours = value.shape[1], own.shape[1]
    if ours == 1:
        return value.sum(dim=1, keepdim=True), f"summed over {theirs} channels"
    if theirs == 1:
        return value.expand_as(own) / ours, f"divided among {ours} channels"
    return None


def _common_prefix(names: Iterable[str], own: Mapping[str, Tensor]) -> str:
    """Return what stands before most of a model's names in a file, such as "module.".

    Of several with equal numbers, the first in the file is taken.

    Example:
        >>> own = {"conv.bias": Tensor(), "fc.bias": Tensor()}
        >>> _common_prefix(["model.conv.bias", "model.fc.bias", "fc.bias"], own)
        'model.'
    """
    found: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in own:
                found["".join(f"{part}." for part in parts[:start])] += 1
    return found.most_common(1)[0][0] if found else ""


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _warn_of_normalization(weights: Weights, config: ResolvedConfig) -> None:
    """Warn if pretrained weights expect images in another range than they get."""
    expected, chosen = weights.statistics, config.model.normalize
    if expected is None or expected == STATISTICS[chosen]:
        return
    mean, std = map(list, expected)
    fitting = [name for name, statistics in STATISTICS.items() if statistics == expected]
    advice = f"; {fitting[0]!r} fits them" if fitting else ""
    warnings.warn(
        f"init: the weights expect images normalized by mean {mean} and deviation {std}, and "
        f"model.normalize is {chosen!r}{advice}",
        stacklevel=2,
    )


def _listed(names: Mapping[str, str]) -> str:
    """Return some of the names, each with its reason, and the number of the others."""
    shown = [f"{name} ({why})" if why else name for name, why in list(names.items())[:_SHOWN]]
    more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*shown, *more])
