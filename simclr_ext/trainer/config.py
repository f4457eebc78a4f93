"""What a training run is made of, as frozen data; every number of the recipe lives here.

Defaults are the paper's for CIFAR-10 (SimCLR, arXiv 2002.05709, appendices A and B.9), but for a
model, a batch and a number of epochs that a CPU can train.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simclr_ext.trainer.errors import ConfigError


def _check(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{name} must be {allowed}, got {value!r}")


def _check_probability(name: str, value: float) -> None:
    _check(0 <= value <= 1, name, value, "a probability in [0, 1]")


def _check_range(name: str, value: tuple[float, float], limit: float = math.inf) -> None:
    ok = len(value) == 2 and 0 < value[0] <= value[1] <= limit and math.isfinite(value[1])
    bound = "" if limit == math.inf else f" <= {limit:g}"
    _check(ok, name, value, f"two numbers 0 < low <= high{bound}")


@dataclass(frozen=True)
class AugmentConfig:
    """The random transformations that turn an image into a view (appendix A).

    Attributes:
        crop_probability: Chance of a random crop; the other images are only resized.
        crop_area: Least and greatest area of the crop as a fraction of the image's.
        crop_ratio: Least and greatest ratio of the crop's width to its height.
        flip_probability: Chance of a horizontal flip; null: 0.5 for colour images, 0 for grey ones
            (a mirrored digit is no digit).
        jitter_probability: Chance of the colour jitter.
        jitter_strength: s: brightness, contrast and saturation vary by 0.8 s, hue by 0.2 s; grey
            images have brightness and contrast only. The paper: 1 for ImageNet, 0.5 for CIFAR-10.
        grayscale_probability: Chance that a colour image loses its colour.
        blur_probability: Chance of a Gaussian blur. The paper: 0.5 for ImageNet, 0 for CIFAR-10.
        blur_sigma: Least and greatest standard deviation of the blur in pixels.
    """

    crop_probability: float = 1.0
    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float | None = None
    jitter_probability: float = 0.8
    jitter_strength: float = 0.5
    grayscale_probability: float = 0.2
    blur_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        _check_probability("augment.crop_probability", self.crop_probability)
        _check_range("augment.crop_area", self.crop_area, limit=1)
        _check_range("augment.crop_ratio", self.crop_ratio)
        if self.flip_probability is not None:
            _check_probability("augment.flip_probability", self.flip_probability)
        _check_probability("augment.jitter_probability", self.jitter_probability)
        # 0.8 s <= 1 keeps the factors of brightness, contrast and saturation non-negative.
        s = self.jitter_strength
        _check(0 <= s <= 1.25, "augment.jitter_strength", s, "in [0, 1.25]")
        _check_probability("augment.grayscale_probability", self.grayscale_probability)
        _check_probability("augment.blur_probability", self.blur_probability)
        _check_range("augment.blur_sigma", self.blur_sigma)


@dataclass(frozen=True)
class ModelConfig:
    """The encoder, a ResNet for small images, and the projection head on top of it.

    Attributes:
        width: Channels of the first stage; each further stage doubles them.
        blocks: Residual blocks of each stage; each stage after the first halves the side.
        projection_hidden: Width of the projection head's hidden layer; null: that of h.
        projection_dim: Dimension of the head's output z, on which the loss acts.
    """

    width: int = 16
    blocks: tuple[int, ...] = (1, 1, 1)
    projection_hidden: int | None = None
    projection_dim: int = 128

    def __post_init__(self) -> None:
        _check(self.width >= 1, "model.width", self.width, "at least 1")
        ok = len(self.blocks) >= 1 and min(self.blocks) >= 1
        _check(ok, "model.blocks", self.blocks, "one or more stages of at least 1 block")
        hidden = self.projection_hidden
        ok = hidden is None or hidden >= 1
        _check(ok, "model.projection_hidden", hidden, "null or at least 1")
        _check(self.projection_dim >= 1, "model.projection_dim", self.projection_dim, "at least 1")


@dataclass(frozen=True)
class OptimConfig:
    """LARS and its learning rate schedule (section 2.2, appendix B.1).

    Attributes:
        learning_rate: Base rate, which `scaling` turns into the peak rate.
        scaling: Peak rate from the batch size N: "linear", rate * N / 256 (the paper's base: 0.3),
            or "sqrt", rate * sqrt(N) (0.075; better for small batches and short runs).
        warmup_epochs: Epochs of linear warmup; a cosine decay to 0 follows.
        momentum: Momentum of the update.
        weight_decay: L2 penalty on weights; biases and batch-norm parameters have none.
        trust_coefficient: LARS' ratio of a layer's update to the norm of its weights.
    """

    learning_rate: float = 0.075
    scaling: Literal["linear", "sqrt"] = "sqrt"
    warmup_epochs: int = 10
    momentum: float = 0.9
    weight_decay: float = 1e-6
    trust_coefficient: float = 0.001

    def __post_init__(self) -> None:
        rate = self.learning_rate
        _check(0 < rate < math.inf, "optim.learning_rate", rate, "positive and finite")
        ok = self.scaling in ("linear", "sqrt")
        _check(ok, "optim.scaling", self.scaling, '"linear" or "sqrt"')
        _check(self.warmup_epochs >= 0, "optim.warmup_epochs", self.warmup_epochs, "at least 0")
        _check(0 <= self.momentum < 1, "optim.momentum", self.momentum, "in [0, 1)")
        decay = self.weight_decay
        _check(0 <= decay < math.inf, "optim.weight_decay", decay, "at least 0 and finite")
        trust = self.trust_coefficient
        _check(0 < trust < math.inf, "optim.trust_coefficient", trust, "positive and finite")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        data: "digits" (scikit-learn's, offline) or the path of an .npz file with MedMNIST's keys.
        out: Run folder, new or empty; null: runs/<data>-<timestamp>.
        image_size: Side of the views in pixels; null: the images' own, and at least 16, below
            which a ResNet has nothing left to pool.
        epochs: Passes over the training images.
        batch_size: N, images per step; the loss sees 2N views.
        temperature: T of NT-Xent. The paper: 0.5 for CIFAR-10, 0.1 for ImageNet.
        seed: Seed of the weights, the batches, the views and the evaluation's draws.
        threads: CPU threads of PyTorch; null: PyTorch's own choice. Results are reproducible bit
            by bit only between runs with as many threads.
        device: PyTorch device, such as "cpu" or "cuda".
        augment: How views are made.
        model: Encoder and projection head.
        optim: Optimiser and schedule.
    """

    data: str = "digits"
    out: str | None = None
    image_size: int | None = None
    epochs: int = 100
    batch_size: int = 256
    temperature: float = 0.5
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        _check(self.data != "", "data", self.data, '"digits" or the path of an .npz file')
        _check(self.out != "", "out", self.out, "null or the path of a folder")
        size = self.image_size
        _check(size is None or size >= 4, "image_size", size, "null or at least 4")
        _check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _check(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        ok = 0 < self.temperature < math.inf
        _check(ok, "temperature", self.temperature, "positive and finite")
        _check(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        ok = self.threads is None or self.threads >= 1
        _check(ok, "threads", self.threads, "null or at least 1")
        warmup = self.optim.warmup_epochs
        ok = warmup < self.epochs or warmup == 0
        _check(ok, "optim.warmup_epochs", warmup, f"below epochs = {self.epochs}")

    @property
    def side(self) -> int:
        """Side of the views in pixels, of a resolved configuration."""
        if self.image_size is None:
            raise ConfigError("image_size is None: resolve the configuration first")
        return self.image_size

    def resolve(self, channels: int, height: int, width: int) -> TrainConfig:
        """Return this configuration with everything left to the images filled in.

        Args:
            channels: C of the images: 1 (grey) or 3 (colour).
            height: Their height in pixels.
            width: Their width in pixels.

        Returns:
            A configuration in which `image_size` and `augment.flip_probability` are numbers.
        """
        size = self.image_size or max(height, width, 16)
        flip = self.augment.flip_probability
        if flip is None:
            flip = 0.5 if channels == 3 else 0.0
        augment = dataclasses.replace(self.augment, flip_probability=flip)
        return dataclasses.replace(self, image_size=size, augment=augment)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as nested dictionaries of plain values, for YAML and JSON."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Return the configuration that `to_dict` wrote.

        Raises:
            ConfigError: A value is out of its range.
            TypeError: A key is not a field.
        """
        parts = {"augment": AugmentConfig, "model": ModelConfig, "optim": OptimConfig}
        nested = {key: part(**_tuples(values.get(key, {}))) for key, part in parts.items()}
        return cls(**{**values, **nested})


DEMO = TrainConfig(
    data="digits",
    epochs=200,
    augment=AugmentConfig(crop_area=(0.2, 1.0), blur_probability=0.5),
)
"""Scikit-learn's digits in two minutes on two CPU cores: the paper's recipe but for the least area
of the crop (a smaller piece of a digit is a stroke that many digits share) and the blur; see
docs/trainer.md for how they were chosen."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
