"""The training loop on a data set small enough to check what it does."""

import dataclasses

import pytest
import torch
from torch import Tensor

from simclr_ext import NTXentLoss
from simclr_ext.options.errors import DivergedError
from simclr_ext.trainer.config import ModelConfig, MonitorConfig, OptimConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.training.gradient import Loss
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.state import Epoch, Training
from simclr_ext.trainer.views.batches import build_source, epoch_order

CONFIG = TrainConfig(
    epochs=3,
    batch_size=8,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(warmup_epochs=1),
).resolve(1, 8, 8)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (21, 1, 8, 8), dtype=torch.uint8, generator=generator(0))


def start(config: TrainConfig = CONFIG) -> Training:
    torch.manual_seed(0)
    return Training.start(SimCLR(config.model, channels=1), config)


def train(
    training: Training,
    images: Tensor,
    config: TrainConfig,
    steps: int = 10**9,
    loss: Loss | None = None,
) -> Training:
    """Train for the given number of steps at most."""
    labels = torch.arange(len(images)) % 3
    part = Part.of(images, labels)
    data = Dataset("tiny", part, part, ("a", "b", "c"))
    for _ in pretrain(training, build_source(data, config), config, loss):
        if training.step >= steps:
            break
    return training


def test_images_of_five_channels() -> None:
    images = torch.randint(256, (21, 5, 8, 8), dtype=torch.uint8, generator=generator(0))
    config = dataclasses.replace(CONFIG, channels=5)
    torch.manual_seed(0)
    training = train(Training.start(SimCLR(config.model, channels=5), config), images, config)
    assert [0 < epoch.loss < 10 for epoch in training.epochs] == [True] * 3


def epochs(images: Tensor, config: TrainConfig = CONFIG) -> list[Epoch]:
    return train(start(config), images, config).epochs


def weights(training: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def assert_equal_weights(ours: Training, theirs: Training) -> None:
    expected = weights(theirs)
    for name, value in weights(ours).items():
        assert torch.equal(value, expected[name]), name


def test_epochs_count_whole_batches_and_follow_the_schedule(images: Tensor) -> None:
    found = epochs(images)
    assert [(e.epoch, e.step) for e in found] == [(1, 2), (2, 4), (3, 6)]  # 21 // 8 steps each
    peak = 0.075 * 8**0.5
    # Steps 1, 3 and 5 of 6; the warmup takes 2, the cosine 4.
    assert [e.learning_rate / peak for e in found] == pytest.approx(
        [1, 0.853553, 0.146447], abs=1e-6
    )
    assert all(e.images_per_second > 0 for e in found)
    assert sorted(e.seconds for e in found) == [e.seconds for e in found]


def test_first_step_has_the_loss_and_the_metrics_of_its_views(images: Tensor) -> None:
    """One batch, one epoch: the loop's loss is the formula's, written out."""
    from simclr_ext.trainer.views.augment import Augment

    config = dataclasses.replace(
        CONFIG, epochs=1, batch_size=21, optim=OptimConfig(warmup_epochs=0), temperature=0.2
    )
    (epoch,) = epochs(images, config)

    batch = images[epoch_order(21, config.batch_size, config.seed, 0)[0]]
    augment = Augment(config.augment, config.side)
    random = generator(derive_seed(config.seed, Stream.VIEWS, 0))
    views = torch.cat([augment(batch, random), augment(batch, random)])
    z = start().model(views)[1].detach()
    z = torch.nn.functional.normalize(z, dim=1)
    similarity = z @ z.T
    similar = (similarity / 0.2).exp().fill_diagonal_(0)
    positives = [(i + 21) % 42 for i in range(42)]
    rows = [-torch.log(similar[i, p] / similar[i].sum()) for i, p in enumerate(positives)]
    assert epoch.loss == pytest.approx(float(sum(rows)) / 42, rel=1e-5)
    hits = [int(similar[i].argmax()) == p for i, p in enumerate(positives)]
    assert epoch.contrastive_accuracy == pytest.approx(sum(hits) / 42)
    positive = float(torch.stack([similarity[i, p] for i, p in enumerate(positives)]).mean())
    assert epoch.positive_similarity == pytest.approx(positive, rel=1e-4)


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_another_loss_trains_in_the_place_of_nt_xent(
    images: Tensor, micro_batch: int | None
) -> None:
    config = dataclasses.replace(CONFIG, micro_batch=micro_batch)
    default = train(start(), images, config)
    same = train(start(), images, config, loss=NTXentLoss(config.temperature))
    assert_equal_weights(same, default)
    # Without a gradient of the loss, only the decay changes weights, and biases have no decay.
    flat = train(start(), images, config, loss=lambda z0, z1: 3 + 0 * (z0 + z1).sum())
    assert [e.loss for e in flat.epochs] == [3.0] * 3
    biases = {name: value for name, value in weights(flat).items() if name.endswith("bias")}
    assert biases
    for name, value in biases.items():
        assert torch.equal(value, weights(start())[name]), name


def test_equal_seeds_give_equal_runs_and_others_do_not(images: Tensor) -> None:
    def losses(seed: int) -> list[float]:
        torch.rand(seed + 1)  # the global random state has no part in it
        return [e.loss for e in epochs(images, dataclasses.replace(CONFIG, seed=seed))]

    first = losses(0)
    assert losses(0) == first
    assert losses(1) != first


def test_the_global_random_state_is_left_alone(images: Tensor) -> None:
    before = torch.get_rng_state()
    train(training := start(), images, CONFIG)
    torch.manual_seed(0)
    assert training.step == 6
    assert torch.equal(before, torch.get_rng_state())


def test_trains_in_training_mode_even_if_evaluated_in_between(images: Tensor) -> None:
    disturbed = start()
    while disturbed.step < 6:
        train(disturbed, images, CONFIG, disturbed.step + 1)
        disturbed.model.eval()
    assert [e.loss for e in disturbed.epochs] == [e.loss for e in epochs(images)]


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_saved_state_resumes_bit_by_bit(images: Tensor, name: str, cut: int) -> None:
    """After any step, also within an epoch, with measurements on only some steps."""
    config = dataclasses.replace(
        CONFIG,
        optim=dataclasses.replace(CONFIG.optim, name=name, learning_rate=0.01),
        monitor=MonitorConfig(metrics_every=2),
    )
    whole = train(start(config), images, config)
    half = train(start(config), images, config, steps=cut)
    resumed = start(config)
    resumed.model.load_state_dict(weights(half))
    resumed.load_state_dict(half.state_dict())
    train(resumed, images, config)
    assert_equal_weights(resumed, whole)

    def rows(training: Training) -> list[Epoch]:
        timeless = {"images_per_second": 0.0, "seconds": 0.0}
        return [dataclasses.replace(epoch, **timeless) for epoch in training.epochs]

    assert rows(resumed) == rows(whole)


def test_a_chunk_as_large_as_the_batch_changes_nothing(images: Tensor) -> None:
    """Both passes see the same views, and running statistics are updated once."""
    whole = train(start(), images, CONFIG)
    config = dataclasses.replace(CONFIG, micro_batch=8)
    chunked = train(start(), images, config)
    for name, value in weights(chunked).items():
        torch.testing.assert_close(value, weights(whole)[name], rtol=1e-4, atol=1e-6, msg=name)
    assert [e.loss for e in chunked.epochs] == pytest.approx([e.loss for e in whole.epochs])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_stays_near_full_precision(images: Tensor, precision: str) -> None:
    config = dataclasses.replace(CONFIG, precision=precision)
    training = train(start(config), images, config)
    assert all(p.dtype == torch.float32 for p in training.model.parameters())
    assert training.scaler.is_enabled() == (precision == "fp16")
    losses = [e.loss for e in epochs(images)]
    assert [e.loss for e in training.epochs] == pytest.approx(losses, rel=0.02)
    assert [e.loss for e in training.epochs] != losses


def test_clipping_bounds_the_step(images: Tensor) -> None:
    optim = OptimConfig(
        name="sgd", learning_rate=0.5, scaling="none", momentum=0.0, weight_decay=0.0,
        warmup_epochs=0, clip_norm=0.01,
    )  # fmt: skip
    config = dataclasses.replace(CONFIG, optim=optim)
    training = start(config)
    before = [p.detach().clone() for p in training.model.parameters()]
    train(training, images, config, steps=1)
    moved = torch.stack(
        [(p.detach() - q).norm() for p, q in zip(training.model.parameters(), before, strict=True)]
    ).norm()
    assert float(moved) == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_compiled_training_has_the_same_losses(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is compiled; without the compiler's backend, which takes minutes."""
    compiled = []

    def compile_model(model: SimCLR) -> SimCLR:
        compiled.append(model)
        return model

    monkeypatch.setattr(torch, "compile", compile_model)
    training = start()
    train(training, images, dataclasses.replace(CONFIG, compile=True))
    assert compiled == [training.model]
    assert [e.loss for e in training.epochs] == [e.loss for e in epochs(images)]


def test_divergence_is_an_error(images: Tensor) -> None:
    optim = OptimConfig(learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(DivergedError, match=r"the loss of epoch \d is nan"):
        epochs(images, dataclasses.replace(CONFIG, optim=optim))
