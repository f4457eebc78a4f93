"""The public function and module: their values, gradients, checks, and use within torch."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from simclr_ext import NTXentLoss, nt_xent_loss
from simclr_ext.tiled import schedule


def test_reductions() -> None:
    z0, z1 = torch.randn(2, 6, 4)
    rows = nt_xent_loss(z0, z1, reduction="none")
    assert rows.shape == (12,)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(nt_xent_loss(z0, z1), rows.mean())
    torch.testing.assert_close(nt_xent_loss(z0, z1, reduction="sum"), rows.sum())


def test_rows_of_z0_come_first() -> None:
    z0, z1 = torch.randn(2, 6, 4)
    rows = nt_xent_loss(z0, z1, reduction="none")
    torch.testing.assert_close(nt_xent_loss(z1, z0, reduction="none"), rows.roll(6))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_follow_the_reduction(reduction: str) -> None:
    z0, z1 = torch.randn(2, 9, 4, dtype=torch.float64)
    grads = []
    for backend in ("fused", "tiled", "reference"):
        x = z0.clone().requires_grad_()
        loss = nt_xent_loss(x, z1, reduction=reduction, backend=backend)
        (3 * loss.square()).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[0], grads[2])
    torch.testing.assert_close(grads[1], grads[2])


def test_module_is_the_function() -> None:
    z0, z1 = torch.randn(2, 6, 4)
    module = NTXentLoss(0.2, reduction="sum", normalize=False, eps=1e-3, backend="fused")
    options = {"reduction": "sum", "normalize": False, "eps": 1e-3}
    assert torch.equal(module(z0, z1), nt_xent_loss(z0, z1, 0.2, **options))
    assert repr(module) == (
        "NTXentLoss(temperature=0.2, reduction='sum', normalize=False, backend='fused')"
    )
    for same in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(z0, z1), module(z0, z1))


def test_module_takes_the_positional_arguments_of_lightly() -> None:
    assert NTXentLoss(0.1, 0, False).temperature == 0.1
    with pytest.raises(NotImplementedError, match=r"memory_bank_size must be 0, got 4096"):
        NTXentLoss(0.1, 4096)
    with pytest.raises(NotImplementedError, match="gather_distributed"):
        NTXentLoss(0.1, gather_distributed=True)


def test_temperature_can_be_learned() -> None:
    module = NTXentLoss(nn.Parameter(torch.tensor(0.5)))
    assert [name for name, _ in module.named_parameters()] == ["temperature"]
    z0, z1 = torch.randn(2, 16, 4)
    module(z0, z1).backward()
    assert module.temperature.grad.shape == ()
    step = 1e-3
    slope = (nt_xent_loss(z0, z1, 0.5 + step) - nt_xent_loss(z0, z1, 0.5 - step)) / (2 * step)
    torch.testing.assert_close(module.temperature.grad, slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_temperature_gradient_has_the_dtype_of_the_temperature(dtype: torch.dtype) -> None:
    temperature = torch.tensor(0.5, dtype=dtype, requires_grad=True)
    nt_xent_loss(torch.randn(3, 4), torch.randn(3, 4), temperature).backward()
    assert temperature.grad.dtype == dtype


@pytest.mark.parametrize("backend", ["fused", "tiled"])
@pytest.mark.parametrize("n", [5, 110], ids=["one tile", "four blocks"])
@pytest.mark.parametrize(
    "needed", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 0)], ids=str
)
def test_only_what_requires_grad_gets_one(
    n: int, needed: tuple[int, int, int], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_CPU_SIDE", 60)
    values = [*torch.randn(2, n, 8), torch.tensor(0.3)]
    every = [value.clone().requires_grad_() for value in values]
    nt_xent_loss(*every, backend=backend).backward()
    some = [v.clone().requires_grad_(bool(need)) for v, need in zip(values, needed, strict=True)]
    nt_xent_loss(*some, backend=backend).backward()
    for value, full, need in zip(some, every, needed, strict=True):
        if need:
            assert torch.equal(value.grad, full.grad)
        else:
            assert value.grad is None


@pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
@pytest.mark.parametrize("temperature", [0.01, 0.3], ids=["a shift each", "one shift"])
@pytest.mark.parametrize("normalize", [True, False], ids=["cosine", "dot product"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_single_pair_has_no_loss_and_no_gradient(
    dtype: torch.dtype, normalize: bool, temperature: float, backend: str
) -> None:
    t = torch.tensor(temperature, requires_grad=True)
    z0, z1 = (torch.randn(1, 7).to(dtype).requires_grad_() for _ in range(2))
    loss = nt_xent_loss(z0, z1, t, normalize=normalize, backend=backend)
    assert loss.item() == 0
    loss.backward()
    assert all(x.grad.abs().max() == 0 for x in (z0, z1, t))


@pytest.mark.parametrize("backend", ["fused", "tiled"])
def test_a_single_pair_of_views_that_are_not_finite_is_nan(backend: str) -> None:
    z = torch.full((1, 3), math.nan)
    assert nt_xent_loss(z, z, backend=backend).isnan()


@pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
@pytest.mark.parametrize("temperature", [0.01, 0.3], ids=["a shift each", "one shift"])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_default_device_does_not_matter(device: str, temperature: float, backend: str) -> None:
    z0, z1 = torch.randn(2, 130, 4)

    def loss_and_grad() -> tuple[torch.Tensor, torch.Tensor]:
        x = z0.clone().requires_grad_()
        loss = nt_xent_loss(x, z1, temperature, backend=backend)
        return loss.detach(), *torch.autograd.grad(loss, x)

    expected = loss_and_grad()
    with torch.device(device):
        assert all(map(torch.equal, loss_and_grad(), expected))


@pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
@pytest.mark.parametrize("learned", [False, True], ids=["float", "tensor"])
def test_meta_views(learned: bool, backend: str) -> None:
    z0, z1 = (torch.empty(6, 4, device="meta", requires_grad=True) for _ in range(2))
    temperature = torch.tensor(0.3, device="meta", requires_grad=True) if learned else 0.3
    rows = nt_xent_loss(z0, z1, temperature, reduction="none", backend=backend)
    assert (rows.device.type, rows.shape) == ("meta", (12,))
    rows.sum().backward()
    assert z0.grad.shape == (6, 4)


@pytest.mark.parametrize("backend", ["fused", "tiled"])
def test_no_grad_and_inference_mode(backend: str) -> None:
    z0, z1 = torch.randn(2, 120, 4)
    expected = nt_xent_loss(z0, z1, backend=backend)
    with torch.no_grad():
        assert not nt_xent_loss(z0.requires_grad_(), z1, backend=backend).requires_grad
    with torch.inference_mode():
        assert torch.equal(nt_xent_loss(z0 * 1, z1 * 1, backend=backend), expected)


@pytest.mark.parametrize("backend", ["fused", "tiled"])
def test_inputs_changed_between_the_passes_are_noticed(backend: str) -> None:
    z0 = torch.randn(3, 4, requires_grad=True)
    x = z0 * 1
    loss = nt_xent_loss(x, torch.randn(3, 4), backend=backend)
    x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backend", ["fused", "tiled"])
def test_autocast_computes_in_the_dtype_of_the_views(backend: str) -> None:
    linear = nn.Linear(8, 4)
    images = torch.randn(2, 130, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z0, z1 = linear(images[0]), linear(images[1])
        loss = nt_xent_loss(z0, z1, backend=backend)
        of_float32 = nt_xent_loss(z0.float(), z1.float(), backend=backend)
    assert z0.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert torch.equal(loss, of_float32)
    loss.backward()
    assert linear.weight.grad.isfinite().all()


class TestErrors:
    """Every wrong argument is named, with its value and what is allowed, by either backend."""

    z = torch.randn(4, 3)

    @pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
    @pytest.mark.parametrize(
        ("z0", "z1", "error", "message"),
        [
            (z[0], z[0], ValueError, r"z0 must be \[N, D\].*\(3,\)"),
            (z[None], z[None], ValueError, r"z0 must be \[N, D\].*\(1, 4, 3\)"),
            (z[:0], z[:0], ValueError, r"N >= 1.*\(0, 3\)"),
            (z[:, :0], z[:, :0], ValueError, r"D >= 1.*\(4, 0\)"),
            (z, z[:3], ValueError, r"z1 must have the shape of z0, \(4, 3\), got \(3, 3\)"),
            (z, z.double(), TypeError, r"z1 .*torch.float32, got torch.float64"),
            (z.int(), z.int(), TypeError, r"z0 must have a floating dtype, got torch.int32"),
            (z, z.int(), TypeError, r"z1 must have a floating dtype, got torch.int32"),
            (z.cfloat(), z.cfloat(), TypeError, r"z0 must have a floating dtype"),
            (z, z.to("meta"), ValueError, r"z1 must be on the device of z0, cpu, got meta"),
            (*[z.to(torch.float8_e5m2)] * 2, TypeError, r"z0 must .* got torch.float8_e5m2"),
            (z.tolist(), z, TypeError, r"z0 must be a torch.Tensor, got list"),
        ],
    )
    def test_views(
        self, z0: object, z1: object, error: type[Exception], message: str, backend: str
    ) -> None:
        with pytest.raises(error, match=message):
            nt_xent_loss(z0, z1, backend=backend)

    @pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"temperature": 0}, ValueError, "temperature must be positive and finite, got 0"),
            ({"temperature": -0.5}, ValueError, "got -0.5"),
            ({"temperature": math.nan}, ValueError, "got nan"),
            ({"temperature": math.inf}, ValueError, "got inf"),
            ({"temperature": torch.tensor(-2.0)}, ValueError, r"temperature .* got -2"),
            ({"temperature": torch.ones(1)}, ValueError, r"0-d tensor, got .*\(1,\)"),
            ({"temperature": torch.tensor(1)}, TypeError, "floating dtype, got torch.int64"),
            ({"temperature": "0.5"}, TypeError, "temperature must be a float .* got str"),
            ({"temperature": True}, TypeError, "temperature must be a float .* got bool"),
            ({"reduction": "avg"}, ValueError, r"reduction must be one of .* got 'avg'"),
            ({"eps": 0.0}, ValueError, "eps must be .* got 0.0"),
            ({"eps": math.nan}, ValueError, "eps must be .* got nan"),
            ({"eps": 1e-39}, ValueError, "eps must be .* got 1e-39"),
        ],
        ids=str,
    )
    def test_options(
        self, options: dict[str, object], error: type[Exception], message: str, backend: str
    ) -> None:
        with pytest.raises(error, match=message):
            nt_xent_loss(self.z, self.z, **options, backend=backend)
        if "eps" not in options:
            with pytest.raises(error, match=message):
                NTXentLoss(**options, backend=backend)

    @pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
    def test_temperature_on_another_device(self, backend: str) -> None:
        module = NTXentLoss(torch.ones((), device="meta"), backend=backend)
        with pytest.raises(ValueError, match="on the CPU or on the device of z0, cpu, got meta"):
            module(self.z, self.z)

    def test_backend(self) -> None:
        with pytest.raises(ValueError, match=r"backend must be one of .* got 'cuda'"):
            nt_xent_loss(self.z, self.z, backend="cuda")
