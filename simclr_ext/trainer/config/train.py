"""A training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, cast

from simclr_ext.options.checks import (
    check,
    check_at_least,
    check_null_or_at_least,
    check_scale,
    check_types,
)
from simclr_ext.options.serialize import from_plain, to_plain
from simclr_ext.trainer.config.augment import AugmentConfig
from simclr_ext.trainer.config.images import ImagesConfig
from simclr_ext.trainer.config.model import ModelConfig
from simclr_ext.trainer.config.monitor import MonitorConfig
from simclr_ext.trainer.config.optim import OptimConfig

if TYPE_CHECKING:
    from typing_extensions import Self

# May be changed when a run is resumed.
CHANGEABLE = ("device", "threads", "workers", "epochs", "images.on_broken")
# Defaults of the side of the views, in pixels, and of the epochs of warmup.
_LEAST_SIDE, _GREATEST_SIDE = 16, 224
_WARMUP_EPOCHS = 10
_LARGEST_VIEW = 2**14  # pixels; a larger number is a mistake, or somebody else's file


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        data: "digits" (scikit-learn's, offline), "cifar10", "cifar100", "stl10", "svhn",
            "fashion-mnist", "imagenet", or the path of a folder of images, with or without
            classes and a split, of an .npz or .npy file, of a list of files (.txt or .csv), or a
            pattern such as "photos/**/*.jpg", WebDataset's shards (.tar), or "hf:" and the name
            or folder of a data set of Hugging Face; see docs/images.md.
        data_root: Folder of the named data sets, such as cifar10, and of downloads.
        download: Whether to download the data set if it is missing.
        workers: Processes that decode images of folders during training, and threads after it.
        out: Run folder, new or empty; null: runs/<data>-<timestamp>.
        init: Weights to start from instead of random ones: a checkpoint or a run folder, a state
            dict (.pt, .pth, .safetensors), or pretrained weights that are on disk, as
            "torchvision:NAME:WEIGHTS" or "timm:NAME"; null: random.
        image_size: Side of the views in pixels; null: the images' longer side, but at least 16,
            below which a ResNet has nothing left to pool, and at most 224, the paper's for
            ImageNet; 224 if the images have different sizes.
        epochs: Passes over the training images.
        batch_size: N, images per step, of all processes together; the loss sees 2N views.
        micro_batch: Images that the encoder takes at a time, of all processes together; the loss
            still sees all 2N views. A divisor of the batch size; null: all. Costs one more forward
            pass; see docs/trainer.md.
        temperature: T of NT-Xent. The paper: 0.5 for CIFAR-10, 0.1 for ImageNet.
        precision: Precision of the network: "fp32", or mixed with "bf16" or "fp16". Weights, the
            loss and its gradient are float32.
        channels_last: Whether to use the channels-last memory format, in which convolutions are
            faster; no effect on models for which oneDNN then overwrites memory, see docs/onednn.md.
        compile: Whether torch.compile compiles the network.
        evaluate: Whether to compare with raw pixels and the untrained encoder at the end of the
            run.
        seed: Seed of the weights, the batches, the views and the evaluation's draws.
        threads: CPU threads of PyTorch, at most one per processor; null: PyTorch's own choice.
            Results are bit-identical only between runs with the same number of threads.
        device: PyTorch device, such as "cpu" or "cuda", which is the GPU of LOCAL_RANK if there are
            several processes.
        images: How images are read and split.
        augment: Augmentation, which makes the views.
        model: Encoder and projection head.
        optim: Optimizer and schedule.
        monitor: What is measured and saved during training.
    """

    data: str = "digits"
    data_root: str = "data"
    download: bool = False
    workers: int = 2
    out: str | None = None
    init: str | None = None
    image_size: int | None = None
    epochs: int = 100
    batch_size: int = 256
    micro_batch: int | None = None
    temperature: float = 0.5
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    evaluate: bool = True
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    images: ImagesConfig = field(default_factory=ImagesConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def __post_init__(self) -> None:
        check_types(self)
        check(self.data != "", "data", self.data, "the name of a data set, a file or a folder")
        check(self.data_root != "", "data_root", self.data_root, "the path of a folder")
        check_at_least("workers", self.workers, 0)
        check(self.out != "", "out", self.out, "null or the path of a folder")
        check(self.init != "", "init", self.init, "null, the path of weights, or a model's name")
        ok = self.init is None or self.model.encoder != "custom"
        check(ok, "init", self.init, "null for an own encoder, which brings its weights")
        size = self.image_size
        ok = size is None or 4 <= size <= _LARGEST_VIEW
        check(ok, "image_size", size, f"null, or at least 4 and at most {_LARGEST_VIEW}")
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 2)
        chunk = self.micro_batch
        ok = chunk is None or (chunk >= 2 and self.batch_size % chunk == 0)
        allowed = f"null or a divisor of batch_size = {self.batch_size}, at least 2"
        check(ok, "micro_batch", chunk, allowed)
        check_scale("temperature", self.temperature)
        check(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        check_null_or_at_least("threads", self.threads, 1)
        warmup = self.optim.warmup_epochs
        ok = warmup is None or warmup < self.epochs or warmup == 0
        check(ok, "optim.warmup_epochs", warmup, f"below epochs = {self.epochs}")

    def resolve(self, channels: int, height: int, width: int) -> ResolvedConfig:
        """Return this configuration with the defaults that depend on the images filled in.

        Args:
            channels: C of the images: 1 (gray), 3 (color), or any other number.
            height: Their height in pixels.
            width: Their width in pixels.
        """
        size = self.image_size or min(max(height, width, _LEAST_SIDE), _GREATEST_SIDE)
        flip = self.augment.flip_probability
        if flip is None:
            flip = 0.0 if channels == 1 else 0.5
        augment = dataclasses.replace(self.augment, flip_probability=flip)
        warmup = self.optim.warmup_epochs
        if warmup is None:
            warmup = min(_WARMUP_EPOCHS, self.epochs / 10)
        optim = dataclasses.replace(self.optim, warmup_epochs=warmup)
        values = {**_values(self), "image_size": size, "augment": augment, "optim": optim}
        return ResolvedConfig(**values, channels=channels)

    @property
    def weights_are_given(self) -> bool:
        """Whether the weights before training are given, and do not follow from the seed."""
        return self.init is not None or self.model.encoder == "custom"

    @property
    def start(self) -> str:
        """Name of the encoder before training, for tables."""
        return "initial encoder" if self.weights_are_given else "untrained encoder"

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as nested dictionaries of plain values, for YAML and JSON."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that `to_dict` converted.

        Raises:
            ConfigError: A key is not a field, or a value is not allowed.
        """
        return from_plain(cls, values)


@dataclass(frozen=True)
class ResolvedConfig(TrainConfig):
    """A run whose images are known, with all defaults filled in.

    Attributes:
        channels: C of the images: 1 (gray), 3 (color), or any other number.
    """

    channels: int = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("channels", self.channels, 1)
        check(self.image_size is not None, "image_size", self.image_size, "resolved")
        flip = self.augment.flip_probability
        check(flip is not None, "augment.flip_probability", flip, "resolved")
        warmup = self.optim.warmup_epochs
        check(warmup is not None, "optim.warmup_epochs", warmup, "resolved")

    @property
    def side(self) -> int:
        """Side of the views in pixels."""
        return cast(int, self.image_size)

    @property
    def warmup_epochs(self) -> float:
        """Epochs of linear warmup."""
        return cast(float, self.optim.warmup_epochs)

    @property
    def options(self) -> TrainConfig:
        """The options that repeat this run, without `channels`."""
        return TrainConfig(**_values(self))


def _values(config: TrainConfig) -> dict[str, Any]:
    """Return the values of a configuration's options by name."""
    return {option.name: getattr(config, option.name) for option in fields(TrainConfig)}
