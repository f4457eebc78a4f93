"""The training loop on a data set small enough to check what it does."""

import dataclasses

import pytest
import torch
from torch import Tensor

from simclr_ext.trainer.config import ModelConfig, OptimConfig, TrainConfig
from simclr_ext.trainer.errors import DataError, DivergedError
from simclr_ext.trainer.model import SimCLR
from simclr_ext.trainer.pretrain import pretrain

CONFIG = TrainConfig(
    epochs=3,
    batch_size=8,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(warmup_epochs=1),
).resolve(1, 8, 8)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (21, 1, 8, 8), dtype=torch.uint8, generator=generator)


def model() -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(CONFIG.model, channels=1)


def test_epochs_count_whole_batches_and_follow_the_schedule(images: Tensor) -> None:
    epochs = list(pretrain(model(), images, CONFIG))
    assert [(e.epoch, e.step) for e in epochs] == [(1, 2), (2, 4), (3, 6)]  # 21 // 8 steps each
    peak = 0.075 * 8**0.5
    # Steps 1, 3 and 5 of 6; the warmup takes 2, the cosine 4.
    assert [e.learning_rate / peak for e in epochs] == pytest.approx(
        [1, 0.853553, 0.146447], abs=1e-6
    )
    assert all(e.images_per_second > 0 for e in epochs)
    assert sorted(e.seconds for e in epochs) == [e.seconds for e in epochs]


def test_first_step_has_the_loss_of_its_views(images: Tensor) -> None:
    """One batch, one epoch: the loop's loss is the formula's, written out."""
    from simclr_ext.trainer.augment import Augment

    config = dataclasses.replace(
        CONFIG, epochs=1, batch_size=21, optim=OptimConfig(warmup_epochs=0), temperature=0.2
    )
    (epoch,) = pretrain(model(), images, config)

    generator = torch.Generator().manual_seed(config.seed)
    batch = images[torch.randperm(21, generator=generator)]
    augment = Augment(config.augment, config.side)
    views = torch.cat([augment(batch, generator), augment(batch, generator)])
    z = model()(views)[1].detach()
    z = torch.nn.functional.normalize(z, dim=1)
    similar = (z @ z.T / 0.2).exp()
    rows = [
        -torch.log(similar[i, (i + 21) % 42] / (similar[i].sum() - similar[i, i]))
        for i in range(42)
    ]
    assert epoch.loss == pytest.approx(float(sum(rows)) / 42, rel=1e-5)


def test_equal_seeds_give_equal_runs_and_others_do_not(images: Tensor) -> None:
    def losses(seed: int) -> list[float]:
        torch.rand(seed + 1)  # the global random state has no part in it
        config = dataclasses.replace(CONFIG, seed=seed)
        return [epoch.loss for epoch in pretrain(start, images, config)]

    start = model()
    first = losses(0)
    start = model()
    assert losses(0) == first
    start = model()
    assert losses(1) != first


def test_trains_in_training_mode_even_if_evaluated_in_between(images: Tensor) -> None:
    plain, disturbed = model(), model()
    losses = [epoch.loss for epoch in pretrain(plain, images, CONFIG)]
    others = []
    for epoch in pretrain(disturbed, images, CONFIG):
        others.append(epoch.loss)
        disturbed.eval()
    assert others == losses


def test_too_few_images(images: Tensor) -> None:
    config = dataclasses.replace(CONFIG, batch_size=22)
    with pytest.raises(DataError, match="batch_size must be at most the 21 training images"):
        next(pretrain(model(), images, config))


def test_divergence_is_an_error(images: Tensor) -> None:
    optim = OptimConfig(learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(DivergedError, match=r"the loss of epoch \d is nan"):
        list(pretrain(model(), images, dataclasses.replace(CONFIG, optim=optim)))
