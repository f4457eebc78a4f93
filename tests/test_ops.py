"""The operators as torch sees them: schemas, fake kernels, autograd, compilation, transforms."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss, ops, tiled

BACKENDS = pytest.mark.parametrize("backend", ["fused", "tiled"])


@pytest.fixture(autouse=True)
def _registered() -> None:
    ops.register()


def operators(backend: str) -> tuple[object, object]:
    """Return the forward and the backward operator of a backend."""
    ours = torch.ops.simclr_ext
    if backend == "tiled":
        return ours.nt_xent_tiled_forward, ours.nt_xent_tiled_backward
    return ours.nt_xent_forward, ours.nt_xent_backward


def forward_args(n: int = 5, dtype: torch.dtype = torch.float32) -> tuple[object, ...]:
    return (torch.randn(n, 3).to(dtype), torch.randn(n, 3).to(dtype), torch.tensor(0.3), True, 1e-6)


@BACKENDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_opcheck_forward(dtype: torch.dtype, backend: str) -> None:
    torch.library.opcheck(operators(backend)[0], forward_args(dtype=dtype))


@BACKENDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("needs", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)], ids=str)
def test_opcheck_backward(needs: tuple[int, int, int], dtype: torch.dtype, backend: str) -> None:
    forward, backward = operators(backend)
    z0, z1, temperature, *options = forward_args(dtype=dtype)
    loss, *saved = forward(z0, z1, temperature, *options)
    args = (torch.rand_like(loss), loss, *saved, temperature, list(map(bool, needs)))
    torch.library.opcheck(backward, args)


@BACKENDS
def test_gradient_of_one_view_is_all_that_is_computed_for_it(backend: str) -> None:
    forward, backward = operators(backend)
    z0, z1, temperature, *options = forward_args(n=200)
    saved = forward(z0, z1, temperature, *options)
    grad_z, grad_temperature = backward(torch.ones(400), *saved, temperature, [False, True, False])
    assert grad_z.shape == (200, 3)
    assert grad_temperature.shape == (0,)


@BACKENDS
def test_operators_check_their_inputs_when_called_directly(backend: str) -> None:
    z0, z1, temperature, *options = forward_args()
    forward, backward = operators(backend)
    with pytest.raises(ValueError, match=r"z1 must have the shape of z0, .5, 3., got .4, 3."):
        forward(z0, z1[:4], temperature, *options)
    with pytest.raises(TypeError, match="z1 must have the dtype of z0"):
        forward(z0, z1.double(), temperature, *options)
    with pytest.raises(ValueError, match="temperature must be positive and finite, got -1"):
        forward(z0, z1, torch.tensor(-1.0), *options)
    loss, lse, z, inv_norm = forward(z0, z1, temperature, *options)
    with pytest.raises(ValueError, match=r"grad_loss must be \[2N\] = \[10\], got shape \[9\]"):
        backward(torch.ones(9), loss, lse, z, inv_norm, temperature, [True] * 3)
    with pytest.raises(ValueError, match=r"z must be \[2N, D\].*got shape \[9, 3\]"):
        backward(loss, loss, lse, z[:9], inv_norm, temperature, [True] * 3)
    with pytest.raises(ValueError, match=r"inv_norm must be \[2N\] = \[10\] or \[0\]"):
        backward(loss, loss, lse, z, inv_norm[:3], temperature, [True] * 3)
    with pytest.raises(TypeError, match="inv_norm must have the dtype of loss"):
        backward(loss, loss, lse, z, inv_norm.double(), temperature, [True] * 3)


@BACKENDS
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("normalize", [True, False], ids=["cosine", "dot product"])
@pytest.mark.parametrize("temperature", [0.002, 0.5], ids=["a shift each", "one shift"])
@pytest.mark.parametrize("n", [1, 4, 98], ids=["one pair", "one tile", "four blocks"])
def test_gradcheck(
    n: int,
    temperature: float,
    normalize: bool,
    reduction: str,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiled, "_CPU_SIDE", 50)
    z0, z1 = torch.randn(2, n, 3, dtype=torch.float64)
    if temperature < 0.1:  # near each other, or the loss is too steep for finite differences
        z0 = 1 + 0.01 * z0
        z1 = 1 + 0.01 * z1
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)

    def loss(z0: Tensor, z1: Tensor, t: Tensor) -> Tensor:
        return nt_xent_loss(z0, z1, t, reduction=reduction, normalize=normalize, backend=backend)

    inputs = (z0.requires_grad_(), z1.requires_grad_(), t)
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, rtol=1e-3, atol=1e-3, fast_mode=n > 4)


@BACKENDS
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compiles_without_graph_breaks(dynamic: bool, backend: str) -> None:
    def step(z0: Tensor, z1: Tensor, temperature: Tensor) -> Tensor:
        return nt_xent_loss(2 * z0, z1.relu(), temperature, backend=backend) * 3

    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic)
    for n in (6, 7):
        inputs = [torch.randn(n, 4, requires_grad=True) for _ in range(2)]
        inputs.append(torch.tensor(0.4, requires_grad=True))
        expected = torch.autograd.grad(step(*inputs), inputs)
        for value, other in zip(
            torch.autograd.grad(compiled(*inputs), inputs), expected, strict=True
        ):
            torch.testing.assert_close(value, other)


@BACKENDS
def test_compiled_code_checks_the_value_of_a_tensor_temperature(backend: str) -> None:
    compiled = torch.compile(nt_xent_loss, fullgraph=True)
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match="temperature must be positive and finite, got -1"):
        compiled(z, z, torch.tensor(-1.0), backend=backend)


@BACKENDS
def test_exports(backend: str) -> None:
    class Loss(torch.nn.Module):
        def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
            return nt_xent_loss(z0, z1, backend=backend)

    z0, z1 = torch.randn(2, 6, 4)
    exported = torch.export.export(Loss(), (z0, z1))
    torch.testing.assert_close(exported.module()(z0, z1), nt_xent_loss(z0, z1))


@BACKENDS
def test_func_grad(backend: str) -> None:
    nt_xent = functools.partial(nt_xent_loss, backend=backend)
    z0, z1 = torch.randn(2, 6, 4)
    x = z0.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nt_xent(x, z1), x)
    assert torch.equal(torch.func.grad(nt_xent)(z0, z1), expected)


@BACKENDS
def test_what_is_not_supported_says_so(backend: str) -> None:
    nt_xent = functools.partial(nt_xent_loss, backend=backend)
    z0, z1 = torch.randn(2, 6, 4)
    x = z0.clone().requires_grad_()
    (grad,) = torch.autograd.grad(nt_xent(x, z1), x, create_graph=True)
    assert grad.requires_grad  # it must not pass for a constant
    with pytest.raises(NotImplementedError, match=r"differentiable once.*backend='reference'"):
        grad.sum().backward()
    with pytest.raises(NotImplementedError, match="differentiable once"):
        torch.func.grad(lambda z: torch.func.grad(nt_xent)(z, z1).sum())(z0)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(nt_xent)(torch.randn(2, 6, 4), torch.randn(2, 6, 4))
    for recorded in (True, False):
        with torch.set_grad_enabled(recorded), pytest.raises(NotImplementedError, match="jvp"):
            torch.func.jvp(lambda z: nt_xent(z, z1), (z0,), (z0,))


def test_reference_is_twice_differentiable() -> None:
    z0, z1 = torch.randn(2, 3, 2, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda z: nt_xent_loss(z, z1, backend="reference"), z0.requires_grad_()
    )
