"""A run in several processes is the run of one process, and of any other number of them."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from simclr_ext.options.errors import ConfigError, DivergedError, PeerError
from simclr_ext.trainer.config import (
    AugmentConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    ResolvedConfig,
    TrainConfig,
)
from simclr_ext.trainer.data import Dataset, open_data
from simclr_ext.trainer.data.digits import load_digits
from simclr_ext.trainer.job import Job, joined
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.preflight import check_same, check_share
from simclr_ext.trainer.training.state import Epoch, Training
from simclr_ext.trainer.views.batches import build_source
from tests.trainer.helpers import write_folder

Run = Callable[..., list[Any]]
CONFIG = TrainConfig(
    epochs=4,
    batch_size=64,
    temperature=0.5,
    model=ModelConfig(width=8, blocks=(1, 1), projection_dim=16, projection_batch_norm=True),
    optim=OptimConfig(warmup_epochs=0, learning_rate=0.0025),
    monitor=MonitorConfig(metrics_every=1),
).resolve(1, 8, 8)
OPTIMIZERS = {
    "lars": OptimConfig(warmup_epochs=0),
    "sgd": OptimConfig("sgd", 0.05, "none", warmup_epochs=0, clip_norm=1.0),
    "adamw": OptimConfig("adamw", 1e-3, "none", warmup_epochs=0, weight_decay=0.05),
}
# Rates at which rounding to float32 does not grow within 20 steps: at those above, one process in
# float32 differs by 1e-5 to 1e-2 from itself in float64.
LOW_RATES = {"lars": 0.0025, "sgd": 0.0002, "adamw": 1e-4}


class Wide(SimCLR):
    """The model in float64, of the same float32 views."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(images.double())


# Without a bias before a batch norm: its gradient is rounding error, which AdamW scales up.
NO_BIAS = dataclasses.replace(CONFIG.model, projection="linear")


@dataclasses.dataclass
class Trained:
    """What a training was: the loss of each step, the weights after it, its epochs."""

    losses: list[float]
    weights: dict[str, Tensor]
    epochs: list[Epoch]


def noisy(images: Tensor, random: Generator) -> Tensor:
    """An augmentation of the user's own."""
    noise = torch.rand(images.shape, generator=random)
    views = (images / 255 + 0.5 * noise).clamp(0, 1)
    return torch.nn.functional.interpolate(views, (16, 16))


def digits(images: int) -> Dataset:
    data = load_digits()
    return dataclasses.replace(data, train=data.train.take(torch.arange(images)))


def train(
    job: Job,
    config: ResolvedConfig,
    data: Dataset,
    *,
    steps: int = 20,
    wide: bool = False,
    augment: Callable[[Tensor, Generator], Tensor] | None = None,
) -> Trained:
    job.use("cpu")
    source = build_source(data, config, augment, job)
    model = build_model(config)
    if wide:
        model.__class__ = Wide
        model.double()
    training, losses = Training.start(model, config), []
    for _ in pretrain(training, source, config, job=job):
        losses.append(training.latest["loss"])
        if training.step == steps:
            break
    return Trained(losses, model.state_dict(), training.epochs)


def on_a_rank(rank: int, group: Any, config: ResolvedConfig, options: dict[str, Any]) -> Trained:
    with joined() as job:
        return train(job, config, digits(5 * config.batch_size), **options)


def alone(config: ResolvedConfig, **options: Any) -> Trained:
    return train(Job(), config, digits(5 * config.batch_size), **options)


def assert_same(found: list[Trained], truth: Trained, loss: float, weight: float) -> None:
    """Fail unless all ranks have the losses and weights of one process, to these errors."""
    for trained in found:
        assert trained.losses == found[0].losses
        assert trained.losses == pytest.approx(truth.losses, rel=loss)
        assert len(trained.losses) == len(truth.losses)
        for name, expected in truth.weights.items():
            error = (trained.weights[name].double() - expected.double()).abs().max()
            assert error <= weight, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_20_steps_are_those_of_one_process(optimizer: str, two: Run) -> None:
    config = dataclasses.replace(CONFIG, optim=OPTIMIZERS[optimizer])
    if optimizer == "adamw":
        config = dataclasses.replace(config, model=NO_BIAS)
    truth = alone(config, wide=True)
    assert len(truth.losses) == 20
    assert truth.losses[-1] < truth.losses[0] - 0.1  # it has learned something
    assert_same(two(on_a_rank, 2, config, {"wide": True}), truth, 1e-12, 1e-10)
    optim = dataclasses.replace(config.optim, learning_rate=LOW_RATES[optimizer])
    config = dataclasses.replace(config, optim=optim)
    assert_same(two(on_a_rank, 2, config, {}), alone(config), 1e-6, 1e-5)


def test_the_same_processes_give_the_same_bits(three: Run) -> None:
    first, again = (three(on_a_rank, 3, CONFIG, {"steps": 8}) for _ in range(2))
    for one, other in itertools.product(first, again):
        assert one.losses == other.losses
        assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 65}, {"micro_batch": 32}, {"batch_size": 66, "micro_batch": 22}],
    ids=["uneven", "micro-batches", "uneven micro-batches"],
)
def test_three_processes_with_uneven_shares(changes: dict[str, int], three: Run) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    truth = alone(config, wide=True)
    assert_same(three(on_a_rank, 3, config, {"wide": True}), truth, 1e-12, 1e-10)


def test_measurements_are_those_of_the_union(three: Run) -> None:
    truth = alone(CONFIG, wide=True).epochs
    for trained in three(on_a_rank, 3, CONFIG, {"wide": True}):
        for found, expected in zip(trained.epochs, truth, strict=True):
            for name in (
                "contrastive_accuracy",
                "entropy",
                "positive_similarity",
                "negative_similarity",
                "embedding_std",
                "effective_rank",
                "learning_rate",
            ):
                value = getattr(expected, name)
                assert getattr(found, name) == pytest.approx(value, rel=1e-6), name


def test_local_statistics_are_another_training(two: Run) -> None:
    model = dataclasses.replace(CONFIG.model, sync_batch_norm=False)
    config = dataclasses.replace(CONFIG, model=model)
    first, second = two(on_a_rank, 2, config, {"steps": 3})
    assert first.losses == second.losses
    truth = alone(config, steps=3)
    assert first.losses[0] != pytest.approx(truth.losses[0], rel=1e-4)
    assert first.losses[0] == pytest.approx(truth.losses[0], rel=0.2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision(precision: str, two: Run) -> None:
    config = dataclasses.replace(CONFIG, precision=precision)
    first, second = two(on_a_rank, 2, config, {"steps": 5})
    assert first.losses == second.losses == pytest.approx(alone(config, steps=5).losses, rel=0.02)
    assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


def test_an_augmentation_of_ones_own_draws_other_views_for_each_process(two: Run) -> None:
    augment = AugmentConfig(custom=True, flip_probability=0.0)
    config = dataclasses.replace(CONFIG, augment=augment)
    options = {"augment": noisy, "steps": 1}
    first, second = two(on_a_rank, 2, config, options)
    (truth,) = alone(config, **options).losses
    assert first.losses == second.losses == [pytest.approx(truth, rel=0.1)]
    assert first.losses[0] != pytest.approx(truth, rel=1e-4)


def of_files(rank: int, group: Any, folder: Path) -> tuple[list[float], list[int]]:
    with joined() as job:
        return from_files(job, folder)


def from_files(job: Job, folder: Path) -> tuple[list[float], list[int]]:
    options = TrainConfig(batch_size=5, epochs=2, workers=0, image_size=16, model=CONFIG.model)
    data = open_data(str(folder))
    config = dataclasses.replace(options.resolve(3, 16, 16), optim=CONFIG.optim)
    config = dataclasses.replace(config, monitor=CONFIG.monitor)
    sizes = [len(batch) for batch in build_source(data, config, None, job).batches(0)]
    return train(job, config, data).losses, sizes


def test_files_are_read_by_the_process_that_takes_them(tmp_path: Path, three: Run) -> None:
    write_folder(tmp_path / "pets", [(20, 16), (16, 24)])
    truth, sizes = from_files(Job(), tmp_path / "pets")
    assert sizes == [5, 5]
    found = three(of_files, 3, tmp_path / "pets")
    assert [sizes for _, sizes in found] == [[1, 1], [2, 2], [2, 2]]
    for losses, _ in found:
        assert losses == pytest.approx(truth, rel=1e-4)


class Partial(nn.Module):
    """An encoder with a parameter that h does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(256, 8), nn.Linear(8, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.used(images.flatten(1))


def with_unused(rank: int, group: Any) -> list[float]:
    with joined() as job:
        return unused(job)


def unused(job: Job) -> list[float]:
    job.use("cpu")
    model = dataclasses.replace(CONFIG.model, encoder="custom")
    config = dataclasses.replace(CONFIG, model=model)
    torch.manual_seed(0)
    training = Training.start(build_model(config, Partial()), config)
    source = build_source(digits(320), config, None, job)
    steps = pretrain(training, source, config, job=job)
    losses = [training.latest["loss"] for training, _ in zip(steps, range(3), strict=False)]
    assert training.model.encoder.model.unused.weight.grad is None
    return losses


def test_a_parameter_without_gradient_stays_as_it_is(two: Run) -> None:
    truth = unused(Job())
    for losses in two(with_unused, 2):
        assert losses == pytest.approx(truth, rel=1e-5)


def too_high(rank: int, group: Any) -> None:
    config = dataclasses.replace(CONFIG, optim=OptimConfig("sgd", 1e30, "none", warmup_epochs=0))
    with joined() as job:
        train(job, config, digits(320))


def test_a_loss_that_diverges_ends_all(two: Run) -> None:
    first, second = two(too_high, 2)
    assert isinstance(first, DivergedError)
    assert isinstance(second, PeerError)
    assert second.kind is DivergedError


def checks(rank: int, group: Any, changes: dict[str, Any], images: int) -> None:
    config = dataclasses.replace(CONFIG, **changes) if rank == 1 else CONFIG
    with joined() as job:
        with job.agreement():
            check_share(config, job)
        check_same(config, digits(images if rank == 1 else 320), job)


def test_processes_that_do_not_fit_together(three: Run) -> None:
    def errors(changes: dict[str, Any], images: int = 320) -> list[str]:
        return [str(error) for error in three(checks, 3, changes, images)]

    assert errors({"threads": 1}) == ["None"] * 3  # each machine has its own number
    text = "ranks 0 and 1 of the job differ in epochs (4 and 5), temperature (0.5 and 0.3)"
    assert errors({"epochs": 5, "temperature": 0.3}) == [f"rank 1: {text}", text, f"rank 1: {text}"]
    assert "different training images from digits, 320 and 100" in errors({}, 100)[0]
    few = "batch_size must be at least 3, the number of processes, got 2"
    assert errors({"batch_size": 2}) == [f"rank 1: {few}", few, f"rank 1: {few}"]
    few = "micro_batch must be at least 3, the number of processes, got 2"
    assert errors({"micro_batch": 2})[1] == few


def test_a_job_of_one_process_needs_nothing() -> None:
    check_share(dataclasses.replace(CONFIG, batch_size=2), Job())
    check_same(CONFIG, digits(320), Job())
    with pytest.raises(ConfigError, match="batch_size must be at least 2"):
        dataclasses.replace(CONFIG, batch_size=1)
