"""Global batch norm on several ranks is batch norm of the union of their images."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.model.batch_norm import GlobalBatchNorm, with_global_statistics

Run = Callable[..., list[Any]]
SIZES = {2: (5, 2), 3: (1, 4, 2)}


class Own(nn.BatchNorm2d):
    """A batch norm with computations of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "2d": lambda: nn.BatchNorm2d(3),
    "1d": lambda: nn.BatchNorm1d(3),
    "no weights": lambda: nn.BatchNorm2d(3, affine=False),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None),
    "not tracked": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "with activation": lambda: BatchNormAct2d(3),
}


def problem(name: str, dtype: torch.dtype) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Return a layer with random weights, input of the union and the gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(LAYERS[name]()).to(torch.promote_types(dtype, torch.float32))
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    shape = (7, 3) if name == "1d" else (7, 3, 4, 5)
    x, grad = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return model, (x * 3 + 40).to(dtype), grad.to(dtype)


def passes(model: nn.Module, network: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Return the output, the gradients and the buffers after two passes."""
    x = x.clone().requires_grad_()
    network(x + 1)
    output = network(x)
    output.backward(grad)
    found = {"output": output.detach(), "input": x.grad}
    found |= {name: parameter.grad for name, parameter in model.named_parameters()}
    return found | dict(model.named_buffers())


def on_a_rank(rank: int, group: Any, name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    model, x, grad = problem(name, dtype)
    sizes = SIZES[group.size()]
    own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    found = passes(model, with_global_statistics(model, group), x[own], grad[own])
    assert type(model[0]) is type(LAYERS[name]())
    return {key: value.clone() for key, value in found.items()}


def check(results: list[dict[str, Tensor]], truth: dict[str, Tensor], tolerance: float) -> None:
    parameters = [name for name in truth if name.endswith(("weight", "bias"))]
    for name, expected in truth.items():
        found = [result[name].double() for result in results]
        if name in ("output", "input"):
            value = torch.cat(found)
        else:  # gradients add up; buffers are the same everywhere
            value = sum(found) if name in parameters else found[-1]
        scale = expected.double().abs().max().item()
        torch.testing.assert_close(value, expected.double(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_that_of_the_union(name: str, two: Run, three: Run) -> None:
    model, x, grad = problem(name, torch.float64)
    truth = passes(model, model, x, grad)
    for run, size in ((two, 2), (three, 3)):
        check(run(on_a_rank, size, name, torch.float64), truth, 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 2e-2)])
def test_lower_precisions(dtype: torch.dtype, tolerance: float, two: Run) -> None:
    """The mean is 40 times the deviation: a sum of squares would lose three digits more."""
    model, x, grad = problem("2d", dtype)
    truth = passes(model.double(), model, x.double(), grad.double())
    check(two(on_a_rank, 2, "2d", dtype), truth, tolerance)


def kinds(rank: int, group: Any) -> list[str]:
    shared = nn.BatchNorm2d(3)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.SyncBatchNorm(3))})
    twin = with_global_statistics(model, group)
    assert twin["a"] is twin["b"][0]
    assert type(model["a"]) is nn.BatchNorm2d
    assert twin["a"].weight is shared.weight
    assert list(twin.state_dict()) == list(model.state_dict())
    assert [id(p) for p in twin.parameters()] == [id(p) for p in model.parameters()]
    twin.eval()
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(rank))
    assert torch.equal(twin["a"](x), shared.eval()(x))  # each rank has its own images
    return [type(layer).__name__ for layer in (twin["a"], twin["b"][1])]


def test_weights_are_shared_and_the_model_stays_as_it_is(two: Run) -> None:
    assert two(kinds, 2) == [[GlobalBatchNorm.__name__] * 2] * 2


def own_computations(rank: int, group: Any) -> None:
    with_global_statistics(nn.Sequential(Own(3)), group)


def test_a_batch_norm_with_computations_of_its_own_is_refused(two: Run) -> None:
    for error in two(own_computations, 2):
        assert isinstance(error, ConfigError)
        assert "model.sync_batch_norm must be false for Own" in str(error)
