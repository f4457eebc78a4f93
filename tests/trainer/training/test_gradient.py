"""One pass and two: equal gradients where images are independent; batch norm's semantics."""

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from simclr_ext import nt_xent_loss
from simclr_ext.trainer.seeds import seeded
from simclr_ext.trainer.training.gradient import one_pass, two_pass

OFF = GradScaler("cpu", enabled=False)
N = 12


def loss_of(z0: Tensor, z1: Tensor) -> Tensor:
    return nt_xent_loss(z0, z1, temperature=0.1)


def network(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5)
    ).double()


def views(batch: Tensor) -> Tensor:
    return torch.cat([batch, batch.flip(3) * 0.9])


def gradients(model: nn.Module) -> list[Tensor]:
    found = []
    for parameter in model.parameters():
        assert parameter.grad is not None
        found.append(parameter.grad.clone())
        parameter.grad = None
    return found


@pytest.fixture
def batch() -> Tensor:
    return torch.rand(N, 3, 6, 6, dtype=torch.float64)


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 12])
def test_the_gradients_are_equal_without_batch_statistics(batch: Tensor, micro_batch: int) -> None:
    """Also with a smaller last chunk (12 = 5 + 5 + 2)."""
    model = network(nn.GroupNorm(2, 8))
    loss, z = one_pass(lambda chunk, _: model(views(chunk)), batch, loss_of, OFF)
    expected = gradients(model)
    other_loss, other_z = two_pass(
        lambda chunk, _: model(views(chunk)),
        batch, loss_of, OFF, micro_batch=micro_batch, model=model,
    )  # fmt: skip
    torch.testing.assert_close(other_loss, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(other_z, z, rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_gradients_add_up_and_the_scale_reaches_them(batch: Tensor) -> None:
    model = network()
    two_pass(lambda c, _: model(views(c)), batch, loss_of, OFF, micro_batch=4, model=model)
    expected = gradients(model)
    scaler = GradScaler("cpu", init_scale=8.0)
    for _ in range(2):
        two_pass(lambda c, _: model(views(c)), batch, loss_of, scaler, micro_batch=4, model=model)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(ours, 2 * 8 * theirs, rtol=1e-10, atol=1e-14)


def test_both_passes_of_a_chunk_drop_the_same(batch: Tensor) -> None:
    """Dropout seeded by the chunk, as in the training loop: equal to one graph over all chunks."""
    model = network(nn.Dropout(0.5))

    def forward(chunk: Tensor, index: int) -> Tensor:
        with seeded(index, torch.device("cpu")):
            z: Tensor = model(views(chunk))
        return z

    loss, _ = two_pass(forward, batch, loss_of, OFF, micro_batch=4, model=model)
    ours = gradients(model)
    parts = [forward(chunk, index).chunk(2) for index, chunk in enumerate(torch.split(batch, 4))]
    whole = loss_of(*(torch.cat(half) for half in zip(*parts, strict=True)))
    whole.backward()
    torch.testing.assert_close(loss, whole.detach(), rtol=1e-12, atol=0)
    for gradient, theirs in zip(ours, gradients(model), strict=True):
        torch.testing.assert_close(gradient, theirs, rtol=1e-10, atol=1e-14)


def test_batch_norm_sees_each_chunk_once(batch: Tensor) -> None:
    """Statistics are the chunk's; running ones are updated once per chunk, in order, not twice."""
    model, plain = network(nn.BatchNorm2d(8)), network(nn.BatchNorm2d(8))
    two_pass(lambda c, _: model(views(c)), batch, loss_of, OFF, micro_batch=4, model=model)
    ours = gradients(model)
    parts = [plain(views(chunk)).chunk(2) for chunk in torch.split(batch, 4)]
    loss_of(*(torch.cat(half) for half in zip(*parts, strict=True))).backward()
    for gradient, theirs in zip(ours, gradients(plain), strict=True):
        torch.testing.assert_close(gradient, theirs, rtol=1e-9, atol=1e-13)
    assert int(model[1].num_batches_tracked) == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def test_running_statistics_are_as_before_a_first_pass_that_fails(batch: Tensor) -> None:
    model = network(nn.BatchNorm2d(8))
    before = {name: value.clone() for name, value in model.named_buffers()}

    def forward(chunk: Tensor, index: int) -> Tensor:
        z: Tensor = model(views(chunk))
        if index == 1:
            raise KeyboardInterrupt
        return z

    with pytest.raises(KeyboardInterrupt):
        two_pass(forward, batch, loss_of, OFF, micro_batch=4, model=model)
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name]), name
