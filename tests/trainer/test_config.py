"""The configuration: its checks, its resolution, its serialization."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
import yaml

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import (
    PRESETS,
    AugmentConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
)
from simclr_ext.trainer.training.optim import peak_learning_rate


@pytest.mark.parametrize(
    ("part", "field", "value", "allowed"),
    [
        (AugmentConfig, "crop_probability", 1.1, "[0, 1]"),
        (AugmentConfig, "crop_area", (0.0, 1.0), "0 < low <= high <= 1"),
        (AugmentConfig, "crop_area", (0.5, 1.5), "0 < low <= high <= 1"),
        (AugmentConfig, "crop_ratio", (2.0, 1.0), "0 < low <= high"),
        (AugmentConfig, "crop_ratio", (1.0, float("inf")), "0 < low <= high"),
        (AugmentConfig, "flip_probability", -0.1, "[0, 1]"),
        (AugmentConfig, "jitter_probability", float("nan"), "[0, 1]"),
        (AugmentConfig, "jitter_strength", 1.3, "[0, 1.25]"),
        (AugmentConfig, "grayscale_probability", 2, "[0, 1]"),
        (AugmentConfig, "blur_probability", 3, "[0, 1]"),
        (AugmentConfig, "blur_sigma", (0.0, 2.0), "0 < low <= high"),
        (ModelConfig, "width", 0, "at least 1"),
        (ModelConfig, "blocks", (), "one or more stages"),
        (ModelConfig, "blocks", (1, 0), "at least 1 block"),
        (ModelConfig, "projection_hidden", 0, "null or at least 1"),
        (ModelConfig, "projection_dim", 0, "at least 1"),
        (ModelConfig, "encoder", "resnet20", "resnet18, resnet34"),
        (ModelConfig, "encoder", "timm:", '"timm:NAME"'),
        (ModelConfig, "width_multiplier", 2, '1 unless model.encoder is "resnet..."'),
        (ModelConfig, "stem", "small", "one of cifar, imagenet"),
        (ModelConfig, "projection", "deep", "one of mlp, linear, none"),
        (ModelConfig, "projection_depth", 1, "at least 2"),
        (OptimConfig, "name", "adam", "one of lars, sgd, adamw"),
        (OptimConfig, "learning_rate", 0.0, "positive"),
        (OptimConfig, "nesterov", True, 'false unless optim.name is "sgd"'),
        (OptimConfig, "betas", (0.9, 1.0), "[0, 1)"),
        (OptimConfig, "exclude", "biases", "one of bias_and_norm, nothing"),
        (OptimConfig, "clip_norm", 0.0, "positive"),
        (MonitorConfig, "metrics_every", 0, "at least 1"),
        (MonitorConfig, "knn_every", -1, "at least 0"),
        (MonitorConfig, "checkpoint_epochs", 0, "at least 1"),
        (MonitorConfig, "checkpoint_steps", 0, "null or at least 1"),
        (MonitorConfig, "keep_epochs", 0, "null or at least 1"),
        (OptimConfig, "scaling", "cubic", "one of linear, sqrt"),
        (OptimConfig, "warmup_epochs", -1, "at least 0"),
        (OptimConfig, "momentum", 1.0, "[0, 1)"),
        (OptimConfig, "weight_decay", -1e-6, "at least 0"),
        (OptimConfig, "trust_coefficient", 0.0, "positive"),
        (TrainConfig, "data", "", "a file or a folder"),
        (TrainConfig, "out", "", "a folder"),
        (TrainConfig, "image_size", 3, "at least 4"),
        (TrainConfig, "epochs", 0, "at least 1"),
        (TrainConfig, "batch_size", 1, "at least 2"),
        (TrainConfig, "micro_batch", 1, "a divisor of batch_size = 256, at least 2"),
        (TrainConfig, "micro_batch", 100, "a divisor of batch_size = 256, at least 2"),
        (TrainConfig, "precision", "fp8", "one of fp32, bf16, fp16"),
        (TrainConfig, "workers", -1, "at least 0"),
        (TrainConfig, "data_root", "", "a folder"),
        (TrainConfig, "temperature", -0.5, "positive"),
        (TrainConfig, "temperature", float("nan"), "positive"),
        (TrainConfig, "seed", -1, "[0, 2**32)"),
        (TrainConfig, "threads", 0, "at least 1"),
    ],
)
def test_error_names_field_value_and_what_is_allowed(
    part: type[Any], field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ConfigError) as error:
        part(**{field: value})
    message = str(error.value)
    prefix = "" if part is TrainConfig else part.__name__.removesuffix("Config").lower() + "."
    assert message.startswith(f"{prefix}{field} must be ")
    assert message.endswith(f"got {value!r}")
    assert allowed in message


@pytest.mark.parametrize(
    ("part", "field", "value", "allowed"),
    [
        (TrainConfig, "epochs", 2.0, "an integer"),
        (TrainConfig, "seed", True, "an integer"),
        (TrainConfig, "image_size", "32", "an integer or null"),
        (TrainConfig, "temperature", None, "a number"),
        (TrainConfig, "augment", {}, "a AugmentConfig"),
        (ModelConfig, "blocks", [1, 1], "a tuple[int, ...]"),
        (AugmentConfig, "crop_area", (0.1,), "a tuple[float, float]"),
    ],
)
def score_values_of_other_types_are_errors(
    part: type[Any], field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ConfigError) as error:
        part(**{field: value})
    assert f"{field} must be {allowed}, got {value!r}" in str(error.value)


def test_warmup_must_end_before_the_run() -> None:
    with pytest.raises(ValueError, match=r"optim.warmup_epochs must be below epochs = 5, got 5"):
        TrainConfig(epochs=5, optim=OptimConfig(warmup_epochs=5))
    assert TrainConfig(epochs=5, optim=OptimConfig(warmup_epochs=4)).epochs == 5


@pytest.mark.parametrize(
    ("shape", "size", "flip"),
    [
        ((1, 8, 8), 16, 0.0),
        ((3, 32, 24), 32, 0.5),
        ((1, 28, 30), 30, 0.0),
        ((3, 224, 200), 224, 0.5),
        ((3, 1600, 1600), 224, 0.5),
        ((3, 16, 225), 224, 0.5),
        ((5, 32, 32), 32, 0.5),
    ],
    ids=["digits", "color", "gray", "ImageNet's", "large", "wide", "multispectral"],
)
def test_resolve_fills_in_what_depends_on_the_images(
    shape: tuple[int, int, int], size: int, flip: float
) -> None:
    resolved = TrainConfig().resolve(*shape)
    assert (resolved.side, resolved.augment.flip_probability) == (size, flip)


def test_resolve_keeps_what_is_given() -> None:
    augment, optim = AugmentConfig(flip_probability=0.0), OptimConfig(warmup_epochs=3)
    config = TrainConfig(image_size=1600, augment=augment, optim=optim)
    resolved = config.resolve(3, 32, 32)
    assert resolved.options == config
    assert resolved.resolve(3, 64, 64) == resolved


@pytest.mark.parametrize(
    ("epochs", "warmup"), [(1, 0.1), (5, 0.5), (30, 3), (99, 9.9), (100, 10), (1000, 10)]
)
def test_the_warmup_is_ten_epochs_or_a_tenth(epochs: int, warmup: float) -> None:
    assert TrainConfig(epochs=epochs).resolve(3, 32, 32).warmup_epochs == warmup


@pytest.mark.parametrize("name", PRESETS)
def test_presets_run_for_any_number_of_epochs(name: str) -> None:
    resolved = dataclasses.replace(PRESETS[name], epochs=1).resolve(3, 32, 32)
    assert resolved.warmup_epochs == 0.1


def test_a_resolved_configuration_leaves_nothing_open() -> None:
    resolved = TrainConfig().resolve(3, 32, 32)
    with pytest.raises(ConfigError, match="image_size must be resolved, got None"):
        dataclasses.replace(resolved, image_size=None)
    with pytest.raises(ConfigError, match=r"augment.flip_probability must be resolved, got None"):
        dataclasses.replace(resolved, augment=AugmentConfig())
    with pytest.raises(ConfigError, match=r"optim.warmup_epochs must be resolved, got None"):
        dataclasses.replace(resolved, optim=OptimConfig())
    with pytest.raises(ConfigError, match="channels must be at least 1, got 0"):
        TrainConfig().resolve(0, 32, 32)


def test_yaml_round_trip() -> None:
    config = TrainConfig(
        data="some.npz",
        augment=AugmentConfig(crop_area=(0.25, 0.5)),
        model=ModelConfig(blocks=(2, 2), projection_hidden=7),
        optim=OptimConfig(scaling="linear"),
    )
    text = yaml.safe_dump(config.to_dict())
    assert TrainConfig.from_dict(yaml.safe_load(text)) == config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_yaml(name: str) -> None:
    preset = PRESETS[name]
    assert TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(preset.to_dict()))) == preset


def test_presets_have_the_papers_numbers() -> None:
    imagenet, cifar = PRESETS["imagenet-r50"], PRESETS["cifar10-r50"]
    assert (imagenet.batch_size, imagenet.temperature, imagenet.image_size) == (4096, 0.1, 224)
    assert peak_learning_rate(imagenet.optim, imagenet.batch_size) == pytest.approx(4.8)
    warmups = [preset.resolve(3, 32, 32).warmup_epochs for preset in (imagenet, cifar)]
    assert warmups == [10, 10]
    assert imagenet.augment.jitter_strength == 1
    assert (cifar.batch_size, cifar.epochs, cifar.temperature) == (1024, 1000, 0.5)
    assert peak_learning_rate(cifar.optim, cifar.batch_size) == 1
    assert (cifar.augment.jitter_strength, cifar.augment.blur_probability) == (0.5, 0)
    small = PRESETS["cifar10-r18"]
    model = dataclasses.replace(small.model, encoder="resnet50")
    assert dataclasses.replace(small, model=model) == cifar


def test_from_dict_checks_values_and_names() -> None:
    with pytest.raises(ConfigError, match=r"model\.width"):
        TrainConfig.from_dict({"model": {"width": 0}})
    with pytest.raises(ConfigError, match=r"model.widht is not an option; there are encoder, "):
        TrainConfig.from_dict({"model": {"widht": 16}})


def test_importing_the_configuration_imports_nothing_of_the_extra() -> None:
    program = (
        "import sys, simclr_ext.trainer.config\n"
        "extra = {'torchvision', 'sklearn', 'matplotlib', 'tensorboard'}\n"  # torch takes tqdm
        "print(sorted(extra & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
