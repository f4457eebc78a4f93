"""The operators as torch sees them: schemas, fake kernels, autograd, compilation, transforms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from simclr_ext import NTXentLoss, nt_xent_loss
from simclr_ext.backends import ops
from simclr_ext.backends.tiled import schedule
from tests.torch_faults import notices_a_float_of_a_module

BACKENDS = pytest.mark.parametrize("backend", ["fused", "tiled"])


@pytest.fixture(autouse=True)
def _registered() -> None:
    ops.register()
    torch.compiler.reset()  # the recompilations of other tests do not count


def operators(backend: str) -> tuple[object, object]:
    """Return the forward and the backward operator of a backend."""
    ours = torch.ops.simclr_ext
    if backend == "tiled":
        return ours.nt_xent_tiled_forward, ours.nt_xent_tiled_backward
    return ours.nt_xent_forward, ours.nt_xent_backward


def forward_args(n: int = 5, dtype: torch.dtype = torch.float32) -> tuple[object, ...]:
    z0, z1 = torch.randn(2, n, 3).to(dtype)
    return z0, z1, torch.tensor(0.3, dtype=torch.float64), True, 1e-6


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
    args = (torch.rand_like(loss), loss, *saved, 3, temperature, 1e-6, list(map(bool, needs)))
    torch.library.opcheck(backward, args)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("needs", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)], ids=str)
def test_opcheck_value_and_grad(needs: tuple[int, int, int], dtype: torch.dtype) -> None:
    args = (*forward_args(dtype=dtype), 0.1, list(map(bool, needs)))
    torch.library.opcheck(torch.ops.simclr_ext.nt_xent_value_and_grad, args)


def test_value_and_grad_are_of_small_batches() -> None:
    z = torch.ones(257, 3)
    with pytest.raises(ValueError, match="z0 must have at most 256 rows here, got 257"):
        torch.ops.simclr_ext.nt_xent_value_and_grad(z, z, T, True, 1e-6, 1.0, [True] * 3)


@BACKENDS
def test_gradient_of_one_view_is_all_that_is_computed_for_it(backend: str) -> None:
    forward, backward = operators(backend)
    z0, z1, temperature, *options = forward_args(n=200)
    saved = forward(z0, z1, temperature, *options)
    args = (torch.ones(400), *saved, 3, temperature, 1e-6)
    grad_z, grad_temperature = backward(*args, [False, True, False])
    assert grad_z.shape == (200, 3)
    assert grad_temperature.shape == (0,)
    grad_z, grad_temperature = backward(*args, [False, False, False])
    assert grad_z.shape == (0, 3)
    assert grad_temperature.shape == (0,)


T = torch.tensor(0.3, dtype=torch.float64)
Z = torch.randn(5, 3)


@BACKENDS
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"z1": Z[:4]}, ValueError, r"z1 must have the shape of z0, .5, 3., got .4, 3."),
        ({"z1": Z.double()}, TypeError, "z1 must have the dtype of z0"),
        ({"z0": Z.int(), "z1": Z.int()}, TypeError, "z0 must .* got .*int"),
        (
            {"z0": Z.to(torch.float8_e4m3fn), "z1": Z.to(torch.float8_e4m3fn)},
            TypeError,
            "z0 must .* got .*[fF]loat8_e4m3fn",
        ),
        ({"z1": Z.to("meta")}, ValueError, "z1 must be on the device of z0, cpu, got meta"),
        ({"z0": Z.to("meta")}, ValueError, "z1 must be on the device of z0, meta, got cpu"),
        ({"temperature": -T}, ValueError, "temperature must be positive and finite, got -0.3"),
        ({"temperature": T / 0}, ValueError, "temperature must be positive and finite, got inf"),
        (
            {"temperature": T * 1e-38},
            ValueError,
            r"temperature must be from 1.17\d+e-38 to .*, got",
        ),
        (
            {"temperature": T * 1e39},
            ValueError,
            r"temperature must be from .* to 8.5\d+e\+37, got",
        ),
        ({"temperature": T.float()}, TypeError, "temperature must be float64, got .*float"),
        ({"temperature": T.long()}, TypeError, "temperature must be float64, got .*(long|int64)"),
        ({"temperature": T[None]}, ValueError, r"temperature must be 0-d, got shape \[1\]"),
        ({"temperature": T.to("meta")}, ValueError, "temperature must be on the CPU, got meta"),
        ({"eps": 0.0}, ValueError, r"eps must be at least 1\.[0-9]*e-38 and finite, got 0"),
    ],
)
def test_the_forward_operator_checks_its_inputs(
    changes: dict[str, object], error: type[Exception], message: str, backend: str
) -> None:
    inputs = {"z0": Z, "z1": Z, "temperature": T, "normalize": True, "eps": 1e-6} | changes
    with pytest.raises(error, match=message):
        operators(backend)[0](**inputs)


@BACKENDS
@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("grad_loss", lambda x: x[:9], ValueError, r"grad_loss must be \[2N\] = \[10\], .* \[9\]"),
        ("z", lambda x: x[:9], ValueError, r"z must be \[2N, D\].*got shape \[9, 3\]"),
        ("z", lambda x: x.to("meta"), ValueError, "must be on the device of z, meta, got cpu"),
        ("inv_norm", lambda x: x[:3], ValueError, r"inv_norm must be \[2N\] = \[10\] or \[0\]"),
        ("inv_norm", lambda x: x.double(), TypeError, "inv_norm must have the dtype of loss"),
        ("lse", lambda x: x.to("meta"), ValueError, "lse must .* device of z, cpu, got meta"),
        ("grad_loss", lambda x: x.int(), TypeError, "grad_loss must .* got .*int"),
        ("dim", lambda x: 4, ValueError, "dim must be 1 to 3, the columns of z, got 4"),
        ("dim", lambda x: 0, ValueError, "dim must be 1 to 3, the columns of z, got 0"),
        ("dim", lambda x: 2, ValueError, r"z must be \[.*, D\] with D = dim = 2, got .* \[10, 3\]"),
        ("z", lambda x: x.double(), TypeError, "z must have the dtype of loss"),
        ("temperature", lambda x: -x, ValueError, "temperature must be positive .*, got -0.3"),
        ("temperature", lambda x: x.long(), TypeError, "temperature must be float64"),
        ("eps", lambda x: 0.0, ValueError, r"eps must be at least 1\.[0-9]*e-38 .*, got 0"),
    ],
)  # fmt: skip
def test_the_backward_operator_checks_its_inputs(
    name: str,
    change: Callable[[object], object],
    error: type[Exception],
    message: str,
    backend: str,
) -> None:
    forward, backward = operators(backend)
    loss, lse, z, inv_norm = forward(Z, Z, T, True, 1e-6)
    inputs = {"grad_loss": loss, "loss": loss, "lse": lse, "z": z, "inv_norm": inv_norm}
    inputs |= {"dim": 3, "temperature": T, "eps": 1e-6, "needs_grad": [True] * 3}
    inputs[name] = change(inputs[name])
    with pytest.raises(error, match=message):
        backward(**inputs)


@pytest.mark.parametrize(
    ("temperature", "error", "message"),
    [
        (torch.ones(2), ValueError, r"temperature must be 0-d, got shape \[2\]"),
        (torch.ones((), dtype=torch.int64), TypeError, "temperature must be float64, .* got long"),
    ],
)
def test_the_differentiable_operator_checks_what_gets_a_gradient(
    temperature: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        torch.ops.simclr_ext.nt_xent(Z, Z, temperature, T, 0, True, 1e-6)


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
    monkeypatch.setattr(schedule, "_CPU_SIDE", 50)
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


EVERY_BACKEND = pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])


def compiler_for(backend: str) -> str:
    """Return what compiles a traced graph: the reference's many operations take Inductor long."""
    return "aot_eager" if backend == "reference" else "inductor"


@EVERY_BACKEND
@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_numbers_may_change_between_the_calls_of_compiled_code(
    dynamic: bool | None, backend: str
) -> None:
    def step(z0: Tensor, z1: Tensor, temperature: float, eps: float) -> Tensor:
        return nt_xent_loss(z0, z1, temperature, eps=eps, backend=backend)

    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend=compiler_for(backend))
    z1 = torch.randn(6, 4)
    for numbers in ((0.5, 1e-12), (0.4, 1e-12), (0.3, 2.0), (0.2, 3.0), (1, 3.0)):
        z0 = torch.randn(6, 4, requires_grad=True)
        losses = [function(z0, z1, *numbers) for function in (compiled, step)]
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*(torch.autograd.grad(loss, z0) for loss in losses))


@EVERY_BACKEND
@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_a_compiled_module_follows_a_schedule(dynamic: bool | None, backend: str) -> None:
    if not dynamic and not notices_a_float_of_a_module():
        pytest.skip("this torch does not notice that an attribute of a compiled module changed")
    module = NTXentLoss(backend=backend)
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=compiler_for(backend))
    z0, z1 = torch.randn(2, 6, 4)
    for module.temperature, module.eps in ((0.5, None), (0.4, None), (0.3, 2.0), (0.2, 3.0)):
        torch.testing.assert_close(compiled(z0, z1), module(z0, z1))


@BACKENDS
def test_compiled_code_checks_a_number_that_changed(backend: str) -> None:
    compiled = torch.compile(nt_xent_loss, fullgraph=True)
    z = torch.randn(4, 3)
    for temperature in (0.5, 0.4):
        compiled(z, z, temperature, backend=backend)
    with pytest.raises(ValueError, match="temperature must be positive and finite, got -1"):
        compiled(z, z, -1.0, backend=backend)


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
def test_exports_with_a_temperature_that_changes(backend: str) -> None:
    class Loss(torch.nn.Module):
        def forward(self, z0: Tensor, z1: Tensor, temperature: Tensor) -> Tensor:
            return nt_xent_loss(z0, z1, temperature, backend=backend)

    z0, z1 = torch.randn(2, 6, 4)
    exported = torch.export.export(Loss(), (z0, z1, torch.tensor(0.5))).module()
    for temperature in (torch.tensor(0.5), torch.tensor(0.2)):
        expected = nt_xent_loss(z0, z1, temperature)
        torch.testing.assert_close(exported(z0, z1, temperature), expected)


def test_exports_to_onnx_by_the_reference(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    z0, z1 = torch.randn(2, 6, 4)
    file = tmp_path / "loss.onnx"
    torch.onnx.export(NTXentLoss(0.3).eval(), (z0, z1), file, dynamo=True)
    session = runtime.InferenceSession(file)
    inputs = {node.name: z.numpy() for node, z in zip(session.get_inputs(), (z0, z1), strict=True)}
    (loss,) = session.run(None, inputs)
    torch.testing.assert_close(torch.from_numpy(loss), nt_xent_loss(z0, z1, 0.3))


@BACKENDS
def test_func_grad(backend: str) -> None:
    nt_xent = functools.partial(nt_xent_loss, backend=backend)
    z0, z1 = torch.randn(2, 6, 4)
    x = z0.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nt_xent(x, z1), x)
    assert torch.equal(torch.func.grad(nt_xent)(z0, z1), expected)


@BACKENDS
@pytest.mark.filterwarnings(
    "ignore:There is a performance drop"
)  # of the batched backward operator
def test_vmap_is_a_loop(backend: str) -> None:
    nt_xent = functools.partial(nt_xent_loss, backend=backend)
    views = torch.randn(3, 6, 4), torch.randn(6, 3, 4)
    temperatures = torch.tensor([0.1, 0.2, 0.3])
    samples = list(zip(views[0], views[1].unbind(1), temperatures, strict=True))
    batched = {"in_dims": (0, 1, 0)}

    expected = torch.stack([nt_xent(*sample) for sample in samples])
    torch.testing.assert_close(torch.func.vmap(nt_xent, **batched)(*views, temperatures), expected)
    with torch.no_grad():
        losses = torch.func.vmap(nt_xent, **batched)(*views, temperatures)
    torch.testing.assert_close(losses, expected)

    grads = torch.func.grad(nt_xent, argnums=(0, 1, 2))
    for value, *others in zip(
        torch.func.vmap(grads, **batched)(*views, temperatures),
        *(grads(*sample) for sample in samples),
        strict=True,
    ):
        torch.testing.assert_close(value, torch.stack(others))

    x = views[0].clone().requires_grad_()
    torch.func.vmap(nt_xent, in_dims=(0, None))(x, samples[0][1]).sum().backward()
    separate = [torch.func.grad(nt_xent)(sample[0], samples[0][1]) for sample in samples]
    torch.testing.assert_close(x.grad, torch.stack(separate))


FORWARD = r"no forward mode .* pass backend='reference'"


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
    for recorded in (True, False):
        with torch.set_grad_enabled(recorded), pytest.raises(NotImplementedError, match=FORWARD):
            torch.func.jvp(lambda z: nt_xent(z, z1), (z0,), (z0,))
    with pytest.raises(NotImplementedError, match="forward mode"):  # torch's own words
        torch.func.hessian(lambda z: nt_xent(z, z1))(z0)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=FORWARD):
        nt_xent(forward_ad.make_dual(z0, z0), z1)
    with forward_ad.dual_level():  # of something else
        assert nt_xent(z0, z1).isfinite()


def test_reference_is_twice_differentiable() -> None:
    z0, z1 = torch.randn(2, 3, 2, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda z: nt_xent_loss(z, z1, backend="reference"), z0.requires_grad_()
    )
