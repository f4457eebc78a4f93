"""LARS against its formula written out, and the schedule."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simclr_ext.trainer.config import OptimConfig, TrainConfig
from simclr_ext.trainer.training.optim import (
    LARS,
    Rewarm,
    build_optimizer,
    learning_rate,
    peak_learning_rate,
    schedule,
)

LR, MOMENTUM, DECAY, TRUST = 0.7, 0.9, 0.01, 0.001


def step_by_hand(w: list[float], g: list[float], v: list[float]) -> None:
    """One step of a layer, in place: You et al., algorithm 1."""
    w_norm = math.sqrt(sum(x * x for x in w))
    g_norm = math.sqrt(sum(x * x for x in g))
    trust = TRUST * w_norm / (g_norm + DECAY * w_norm)
    for i in range(len(w)):
        v[i] = MOMENTUM * v[i] + LR * trust * (g[i] + DECAY * w[i])
        w[i] = w[i] - v[i]


def test_steps_follow_the_formula() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    optimizer = LARS([weight], LR, MOMENTUM, DECAY, TRUST)
    w, v = weight.detach().flatten().tolist(), [0.0] * 12
    for _ in range(5):
        grad = torch.randn(3, 4, dtype=torch.float64)
        weight.grad = grad.clone()
        optimizer.step()
        step_by_hand(w, grad.flatten().tolist(), v)
        assert torch.equal(weight.grad, grad)
        torch.testing.assert_close(
            weight.detach().flatten(), torch.tensor(w, dtype=torch.float64), rtol=1e-12, atol=0
        )


def test_biases_and_batch_norm_follow_sgd_without_decay() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    theirs = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    theirs.load_state_dict(ours.state_dict())
    config = OptimConfig(weight_decay=0.5)
    optimizer = build_optimizer(ours, config, LR)
    sgd = torch.optim.SGD(theirs.parameters(), LR, MOMENTUM)
    for _ in range(3):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        optimizer.step()
        sgd.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if name == "0.weight":
            assert not torch.allclose(a, b)
        else:  # 0.bias, 1.weight, 1.bias
            torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("zero", ["weight", "grad"])
def test_zero_weights_or_gradients_stay_finite(zero: str) -> None:
    weight = nn.Parameter(torch.zeros(2, 2) if zero == "weight" else torch.ones(2, 2))
    weight.grad = torch.zeros(2, 2) if zero == "grad" else torch.ones(2, 2)
    LARS([weight], lr=0.5).step()
    expected = torch.full((2, 2), -0.5) if zero == "weight" else torch.ones(2, 2)
    assert torch.equal(weight.detach(), expected)


def test_parameters_without_gradient_are_left_alone() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    LARS([weight], lr=0.5, weight_decay=0.1).step()
    assert torch.equal(weight.detach(), torch.ones(2, 2))


def test_step_runs_a_closure() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight], lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert bool((weight < 1).all())


def test_state_survives_saving() -> None:
    def run(steps: int, optimizer: LARS, weight: Tensor) -> None:
        for _ in range(steps):
            weight.grad = weight.detach().sin()
            optimizer.step()

    whole = nn.Parameter(torch.arange(1.0, 5.0).view(2, 2))
    run(4, LARS([whole], LR, weight_decay=DECAY), whole)

    parts = nn.Parameter(torch.arange(1.0, 5.0).view(2, 2))
    first = LARS([parts], LR, weight_decay=DECAY)
    run(2, first, parts)
    second = LARS([parts], lr=123.0)
    second.load_state_dict(first.state_dict())
    run(2, second, parts)
    assert torch.equal(whole, parts)


def test_peak_learning_rate() -> None:
    assert peak_learning_rate(OptimConfig(learning_rate=0.3, scaling="linear"), 4096) == 4.8
    assert peak_learning_rate(OptimConfig(learning_rate=0.075, scaling="sqrt"), 4096) == 4.8
    assert peak_learning_rate(OptimConfig(learning_rate=1.0, scaling="none"), 1024) == 1


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (
            OptimConfig(name="sgd", nesterov=True, weight_decay=0.5),
            lambda groups: torch.optim.SGD(groups, LR, 0.9, nesterov=True),
        ),
        (
            OptimConfig(name="adamw", betas=(0.8, 0.9), weight_decay=0.5),
            lambda groups: torch.optim.AdamW(groups, LR, (0.8, 0.9)),
        ),
    ],
    ids=["sgd", "adamw"],
)
def test_others_are_pytorchs_and_decay_weights_alone(
    config: OptimConfig, reference: Callable[[Any], torch.optim.Optimizer]
) -> None:
    ours, theirs = small_network(), small_network()
    optimizer = build_optimizer(ours, config, LR)
    kernel, *others = theirs.parameters()
    expected = reference(
        [{"params": [kernel], "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}]
    )
    for _ in range(3):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        optimizer.step()
        expected.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nothing_excluded_is_lars_for_every_parameter() -> None:
    network = small_network()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = build_optimizer(network, OptimConfig(exclude="nothing", weight_decay=DECAY), LR)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for parameter, start in zip(network.parameters(), before, strict=True):
        assert parameter.grad is not None
        w, v = start.flatten().tolist(), [0.0] * start.numel()
        if any(w):  # a batch norm's bias starts at 0, where LARS has no norm to adapt to
            step_by_hand(w, parameter.grad.flatten().tolist(), v)
            torch.testing.assert_close(parameter.detach().flatten(), torch.tensor(w))


def test_schedule_warms_up_then_follows_the_cosine() -> None:
    rates = [schedule(step, total_steps=14, warmup_steps=4) for step in range(14)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[9] == pytest.approx(0.5)
    assert rates[13] == pytest.approx(0.5 * (1 + math.cos(math.pi * 9 / 10)))
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert schedule(0, total_steps=10, warmup_steps=0) == 1


def test_a_second_warmup_is_a_line_from_the_last_rate_to_the_curve() -> None:
    """Ten epochs of two steps, after eight steps at most at a rate of 0.01."""
    optim = OptimConfig(learning_rate=0.5, scaling="none", warmup_epochs=1)
    config = TrainConfig(epochs=10, optim=optim).resolve(1, 8, 8)
    curve = [learning_rate(step, config, 2) for step in range(20)]
    assert curve == [0.5 * schedule(step, 20, 2) for step in range(20)]
    rates = [learning_rate(step, config, 2, Rewarm(8, 4, 0.01)) for step in range(20)]
    assert rates[:8] == curve[:8]
    assert rates[11:] == curve[11:]
    assert rates[8:12] == pytest.approx([0.01 + k * (curve[11] - 0.01) / 4 for k in (1, 2, 3, 4)])
    assert curve[11] == pytest.approx(0.5 * 0.5)  # in the middle of the cosine
