"""The loss of JAX: against float64, optax and the same kernels in torch; its transformations."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import simclr_ext
from simclr_ext.testing import error_norm
from tests import accuracy
from tests.accuracy import check_results

jax = pytest.importorskip("jax", reason="needs jax: pip install 'simclr-ext[jax]'")
jnp = jax.numpy

from simclr_ext.jax import nt_xent_loss  # noqa: E402
from tests.jax.arrays import as_array, as_tensor, loss_and_grads, views  # noqa: E402

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def check(n: int, d: int, dtype: torch.dtype, temperature: float = 0.5, **options: Any) -> None:
    z0 = torch.randn(n, d)
    z = z0.to(dtype), (z0 + 0.8 * torch.randn(n, d)).to(dtype)
    check_results(loss_and_grads(z, temperature, **options), z, temperature, **options)


@pytest.mark.parametrize(
    ("n", "d"), [(1, 1), (2, 1), (3, 33), (64, 128), (65, 127), (513, 31)], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_against_float64(n: int, d: int, dtype: torch.dtype) -> None:
    check(n, d, dtype)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 100.0])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=["float32", "float64"])
def test_temperatures(temperature: float, dtype: torch.dtype) -> None:
    check(70, 12, dtype, temperature)


def test_dot_products() -> None:
    check(70, 12, torch.float32, normalize=False)


def test_rows_shorter_than_eps_are_divided_by_it() -> None:
    check(40, 3, torch.float32, eps=2.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_same_value_and_gradients_as_optax(dtype: str, temperature: float) -> None:
    """With one label per pair, optax's positives and negatives are those of NT-Xent."""
    optax = pytest.importorskip("optax")

    def of_optax(z0: jax.Array, z1: jax.Array) -> jax.Array:
        pairs = jnp.tile(jnp.arange(len(z0)), 2)
        return optax.losses.ntxent(jnp.concatenate([z0, z1]), pairs, temperature)

    def ours(z0: jax.Array, z1: jax.Array) -> jax.Array:
        return nt_xent_loss(z0, z1, temperature)

    with jax.enable_x64(dtype == "float64"):
        inputs = [jnp.asarray(z, dtype) for z in views(33, 9)]
        found, expected = (
            jax.value_and_grad(loss, argnums=(0, 1))(*inputs) for loss in (ours, of_optax)
        )
        tolerance = 1e-12 if dtype == "float64" else 3e-6
        for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert value.dtype == dtype
            np.testing.assert_allclose(value, other, rtol=tolerance, atol=tolerance / 10)


def test_same_bits_as_the_loss_for_torch() -> None:
    z = torch.randn(2, 150, 40)
    ours = loss_and_grads((z[0], z[1]), 0.2)
    other = accuracy.loss_and_grads((z[0], z[1]), 0.2, backend="fused")
    assert torch.equal(ours[0], other[0])
    for name, value, expected in zip(accuracy.NAMES, ours, other, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9, msg=name)


def test_by_hand() -> None:
    z = jnp.eye(4)  # each row: log(e^2 + 6) - 2
    row = math.log(math.exp(2) + 6) - 2
    assert float(nt_xent_loss(z, z)) == pytest.approx(row, rel=1e-6)
    assert float(nt_xent_loss(z, z, reduction="sum")) == pytest.approx(8 * row, rel=1e-6)
    rows = nt_xent_loss(z, z, reduction="none")
    np.testing.assert_allclose(rows, np.full(8, row), rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_value_and_gradients_of_a_reduction(reduction: str, normalize: bool) -> None:
    """Followed by another function, so that the gradient of the loss is not 1."""
    options: dict[str, Any] = {"reduction": reduction, "normalize": normalize, "eps": 1.5}

    def ours(z0: jax.Array, z1: jax.Array, t: jax.Array) -> jax.Array:
        return 3 * nt_xent_loss(z0, z1, t, **options)

    inputs = (*views(20), jnp.array(0.3))
    value, grads = jax.value_and_grad(ours, argnums=(0, 1, 2))(*inputs)
    exact_inputs = [as_tensor(array).double().requires_grad_() for array in inputs]
    exact = 3 * simclr_ext.nt_xent_loss(*exact_inputs, backend="reference", **options)
    torch.testing.assert_close(as_tensor(value).double(), exact, rtol=1e-6, atol=0)
    for grad, expected in zip(grads, torch.autograd.grad(exact, exact_inputs), strict=True):
        assert error_norm(as_tensor(grad), expected) < 1e-5 * expected.norm()
    assert value == ours(*inputs)  # computed without gradients


@pytest.mark.parametrize(
    "temperature",
    [0.5, np.float32(0.5), np.array(0.5), np.array([0.5]), jnp.array(0.5), jnp.array([0.5])],
    ids=["number", "float32", "0-d", "1-d", "array", "1-d array"],
)
def test_forms_of_a_temperature(temperature: Any) -> None:
    assert nt_xent_loss(*views(5), temperature) == nt_xent_loss(*views(5))


def test_a_whole_temperature_passes_through_jit() -> None:
    z0, z1 = views(5)
    assert jax.jit(nt_xent_loss)(z0, z1, 1) == nt_xent_loss(z0, z1, 1.0)


def test_gradient_of_a_temperature_has_its_shape_and_dtype() -> None:
    t = jnp.array([0.5], jnp.bfloat16)
    grad = jax.grad(nt_xent_loss, argnums=2)(*views(5), t)
    assert (grad.shape, grad.dtype) == ((1,), jnp.bfloat16)


def test_views_of_two_dtypes() -> None:
    z0, z1 = views(6)
    half = z1.astype(jnp.bfloat16)
    loss, (g0, g1) = jax.value_and_grad(nt_xent_loss, argnums=(0, 1))(z0, half)
    assert (loss.dtype, g0.dtype, g1.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    assert loss == nt_xent_loss(z0, half.astype(jnp.float32))


def test_numpy_arrays_and_other_layouts() -> None:
    z0, z1 = views(6)
    assert nt_xent_loss(np.asarray(z0), np.asfortranarray(z1)) == nt_xent_loss(z0, z1)
    stacked = jnp.stack([z0, z1], axis=1)  # [N, 2, D]
    split = jax.jit(lambda z: nt_xent_loss(z[:, 0], z[:, 1]))
    assert split(stacked) == nt_xent_loss(z0, z1)


def test_vmap_is_a_loop() -> None:
    z = jnp.stack([jnp.stack(views(n := 9)), jnp.stack(views(9)) * 2 + 1, -jnp.stack(views(9))])
    t = jnp.array([0.1, 0.5, 2.0])
    passes = jax.value_and_grad(nt_xent_loss, argnums=(0, 1, 2))
    found = jax.jit(jax.vmap(passes))(z[:, 0], z[:, 1], t)
    for index in range(len(z)):
        expected = passes(*z[index], t[index])
        for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(value[index], other)
    shared = jax.vmap(nt_xent_loss, in_axes=(0, None))(z[:, 0], z[0, 1])
    assert shared.shape == (3,)
    assert shared[0] == nt_xent_loss(*views(n))


def test_a_training_loop_in_scan() -> None:
    """Gradient descent on the views alone brings those of a pair together."""

    def step(z: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        loss, grad = jax.value_and_grad(lambda z: nt_xent_loss(*z, 0.5))(z)
        return z - grad, loss

    _, losses = jax.jit(lambda z: jax.lax.scan(step, z, length=40))(jnp.stack(views(12)))
    assert losses[-1] < losses[0] - 0.5
    assert (jnp.diff(losses) < 0).all()


def test_under_checkpoint() -> None:
    z0, z1 = views(12)
    again = jax.grad(jax.checkpoint(nt_xent_loss))(z0, z1)
    np.testing.assert_array_equal(again, jax.grad(nt_xent_loss)(z0, z1))


BITS = """
import hashlib, jax, numpy as np
from simclr_ext.jax import nt_xent_loss
z0, z1 = np.random.default_rng(0).standard_normal((2, 700, 40), np.float32)
results = jax.jit(jax.value_and_grad(nt_xent_loss, argnums=(0, 1, 2)))(z0, z1, 0.1)
bits = b"".join(np.asarray(array).tobytes() for array in jax.tree.leaves(results))
print(hashlib.sha256(bits).hexdigest())
"""


def run(code: str, **env: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, **env}, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_any_number_of_threads() -> None:
    assert run(BITS, OMP_NUM_THREADS="1") == run(BITS, OMP_NUM_THREADS="3")


SHARDED = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from simclr_ext.jax import nt_xent_loss
z = np.random.default_rng(0).standard_normal((2, 6, 5), np.float32)
sharding = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
passes = jax.jit(jax.value_and_grad(nt_xent_loss, argnums=(0, 1)))
found = passes(*(jax.device_put(view, sharding) for view in z))
same = jax.tree.map(np.array_equal, found, passes(*z))
print(len(jax.devices()), all(jax.tree.leaves(same)))
"""


def test_sharded_views_are_one_batch() -> None:
    flags = "--xla_force_host_platform_device_count=2"
    assert run(SHARDED, XLA_FLAGS=flags).split() == ["2", "True"]


def test_callers_in_parallel() -> None:
    z0, z1 = views(300)
    passes = jax.jit(jax.value_and_grad(nt_xent_loss, argnums=(0, 1)))
    expected = jax.tree.leaves(passes(z0, z1))
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: jax.tree.leaves(passes(z0, z1)), range(12)):
            assert all(map(np.array_equal, result, expected))


def test_second_derivatives_and_forward_mode_are_refused() -> None:
    z0, z1 = views(4)
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.hessian(nt_xent_loss)(z0, z1)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(nt_xent_loss, (z0, z1), (z0, z1))


Z = np.ones((4, 3), np.float32)
WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "tensor": (
        lambda: nt_xent_loss(torch.ones(4, 3), Z),
        TypeError,
        "z0 must be an array of JAX or NumPy, got Tensor",
    ),
    "integers": (
        lambda: nt_xent_loss(Z, Z.astype(int)),
        TypeError,
        "z1 must have a floating dtype, got int64; allowed are float64, float32, bfloat16 and "
        "float16",
    ),
    "one row": (
        lambda: nt_xent_loss(Z[0], Z),
        ValueError,
        "z0 must be [N, D] with N >= 1 and D >= 1, got an array of shape (3,)",
    ),
    "empty": (
        lambda: nt_xent_loss(Z[:0], Z[:0]),
        ValueError,
        "z0 must be [N, D] with N >= 1 and D >= 1, got an array of shape (0, 3)",
    ),
    "other shape": (
        lambda: jax.jit(nt_xent_loss)(Z, Z[:3]),
        ValueError,
        "z1 must have the shape of z0, (4, 3), got (3, 3)",
    ),
    "temperature": (
        lambda: nt_xent_loss(Z, Z, -1.0),
        ValueError,
        "temperature must be positive and finite, got -1.0",
    ),
    "large temperature": (
        lambda: nt_xent_loss(Z, Z, 1e38),
        ValueError,
        "temperature must be from 1.17549e-38 to 8.50706e+37, got 1e+38",
    ),
    "temperatures": (
        lambda: nt_xent_loss(Z, Z, np.ones(4)),
        ValueError,
        "temperature must be a number or an array of shape () or (1,), got an array of shape (4,)",
    ),
    "word": (
        lambda: nt_xent_loss(Z, Z, "0.5"),
        TypeError,
        "temperature must be a number or an array of shape () or (1,), got str",
    ),
    "complex": (
        lambda: nt_xent_loss(Z, Z, jnp.array(1j)),
        TypeError,
        "temperature must be real, got complex64",
    ),
    "reduction": (
        lambda: nt_xent_loss(Z, Z, reduction="max"),
        ValueError,
        "reduction must be one of ('mean', 'sum', 'none'), got 'max'",
    ),
    "eps": (
        lambda: nt_xent_loss(Z, Z, eps=0.0),
        ValueError,
        "eps must be at least 1.2e-38 and finite, got 0.0",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_wrong_value_of_an_array_is_said_when_it_is_known(temperature: float) -> None:
    said = "temperature must be positive and finite, got"
    with pytest.raises(jax.errors.JaxRuntimeError, match=said):
        jax.block_until_ready(jax.jit(nt_xent_loss)(Z, Z, temperature))


def test_conversions_of_the_tests_change_nothing() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        z = torch.randn(3, 4).to(dtype)
        assert torch.equal(as_tensor(as_array(z)), z)
