"""The public function and module: their values, gradients, checks, and use within torch."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from simclr_ext import (
    DCLLoss,
    HCLLoss,
    InfoNCELoss,
    NTXentLoss,
    SigLIPLoss,
    SupConLoss,
    nt_xent_loss,
)
from simclr_ext.backends.tiled import schedule


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


@pytest.fixture
def _no_group_remains() -> Iterator[None]:
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.usefixtures("_no_group_remains")
def test_gathering_changes_nothing_in_one_process() -> None:
    z0, z1 = torch.randn(2, 6, 4)
    module = NTXentLoss(0.1, gather_distributed=True)
    expected = NTXentLoss(0.1)(z0, z1)
    assert torch.equal(module(z0, z1), expected)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    assert torch.equal(NTXentLoss(0.1, gather_distributed=True)(z0, z1), expected)
    with pytest.raises(ValueError, match="group must be None with gather_distributed=True"):
        NTXentLoss(0.1, gather_distributed=True, group=distributed.group.WORLD)


@pytest.mark.usefixtures("_no_group_remains")
def test_what_a_group_does_not_take() -> None:
    z0, z1 = torch.randn(2, 6, 4)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    world = distributed.group.WORLD
    with pytest.raises(ValueError, match=r"exchange must be 'gather' with positive_ids"):
        nt_xent_loss(z0, z1, positive_ids=torch.arange(6), group=world, exchange="ring")
    with pytest.raises(ValueError, match=r"exchange must be one of .* got 'star'"):
        nt_xent_loss(z0, z1, group=world, exchange="star")
    with pytest.raises(ValueError, match=r"backend must be .* with a group, got 'reference'"):
        nt_xent_loss(z0, z1, group=world, backend="reference")
    with pytest.raises(TypeError, match=r"group must be None, a ProcessGroup, .* got int"):
        nt_xent_loss(z0, z1, group=3)


@pytest.mark.usefixtures("_no_group_remains")
def test_modules_pass_their_group_on() -> None:
    z0, z1 = torch.randn(2, 6, 4, dtype=torch.float64)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    world = distributed.group.WORLD
    for make in (NTXentLoss, InfoNCELoss, DCLLoss, HCLLoss, SigLIPLoss):
        torch.testing.assert_close(make(group=world)(z0, z1), make()(z0, z1))
        with pytest.raises(ValueError, match=r"exchange must be one of .* got 'star'"):
            make(group=world, exchange="star")(z0, z1)
    labels = torch.arange(6) % 2
    found = SupConLoss(group=world)(z0, labels)
    torch.testing.assert_close(found, SupConLoss()(z0, labels))


BACKENDS = pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])


@BACKENDS
@pytest.mark.parametrize(
    ("join", "split"),
    [
        (torch.cat, lambda z: z.chunk(2)),
        (lambda views: torch.stack(views, 1).flatten(0, 1), lambda z: (z[0::2], z[1::2])),
        (lambda views: torch.stack(views, 1), lambda z: z.unbind(1)),
    ],
    ids=["stacked", "interleaved", "views"],
)
def test_one_tensor_is_split_by_the_caller(join: object, split: object, backend: str) -> None:
    views = torch.randn(2, 7, 5, dtype=torch.float64)
    z, apart = join(list(views)).requires_grad_(), views.clone().requires_grad_()
    nt_xent_loss(*split(z), 0.2, backend=backend).backward()
    nt_xent_loss(*apart, 0.2, backend="reference").backward()
    torch.testing.assert_close(z.grad, join(list(apart.grad)))


@BACKENDS
@pytest.mark.parametrize(
    ("first", "second", "gradients"),
    [
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float32, torch.float64, torch.float64),
    ],
    ids=str,
)
def test_views_of_two_dtypes_are_promoted(
    first: torch.dtype, second: torch.dtype, gradients: torch.dtype, backend: str
) -> None:
    z0, z1 = torch.randn(2, 9, 6)
    z0, z1 = z0.to(first).requires_grad_(), z1.to(second).requires_grad_()
    loss = nt_xent_loss(z0, z1, 0.2, backend=backend)
    loss.backward()
    truth = [z.detach().double().requires_grad_() for z in (z0, z1)]
    expected = nt_xent_loss(*truth, 0.2, backend="reference")
    expected.backward()
    assert (loss.dtype, z0.grad.dtype, z1.grad.dtype) == (gradients, first, second)
    torch.testing.assert_close(loss, expected.to(gradients))
    for z, exact in zip((z0, z1), truth, strict=True):
        torch.testing.assert_close(z.grad, exact.grad.to(z.dtype))


def test_a_float16_view_of_zeros_has_a_finite_gradient_beside_a_float32_view() -> None:
    z0 = torch.zeros(4, 3, dtype=torch.float16, requires_grad=True)
    nt_xent_loss(z0, torch.randn(4, 3)).backward()
    assert z0.grad.isfinite().all()


@pytest.mark.parametrize(
    "number",
    [np.float16(0.25), np.float32(0.25), np.float64(0.25), np.array(0.25)],
    ids=lambda number: type(number).__name__,
)
def test_numbers_of_numpy_are_numbers(number: float) -> None:
    z0, z1 = torch.randn(2, 6, 4)
    expected = nt_xent_loss(z0, z1, 0.25, eps=0.25)
    assert torch.equal(nt_xent_loss(z0, z1, number, eps=number), expected)
    module = NTXentLoss(number, eps=number)
    assert torch.equal(module(z0, z1), expected)
    assert isinstance(module.temperature, float)


SHAPES = pytest.mark.parametrize("shape", [(), (1,)], ids=["scalar", "one element"])


@BACKENDS
@SHAPES
def test_temperature_can_be_learned(shape: tuple[int, ...], backend: str) -> None:
    module = NTXentLoss(nn.Parameter(torch.full(shape, 0.5)), backend=backend)
    assert [name for name, _ in module.named_parameters()] == ["temperature"]
    z0, z1 = torch.randn(2, 16, 4)
    loss = module(z0, z1)
    assert loss.shape == ()
    loss.backward()
    assert module.temperature.grad.shape == shape
    exact = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    nt_xent_loss(z0.double(), z1.double(), exact, backend="reference").backward()
    torch.testing.assert_close(module.temperature.grad, exact.grad.float().reshape(shape))


@SHAPES
@pytest.mark.parametrize("learned", [True, False], ids=["parameter", "buffer"])
def test_a_tensor_temperature_is_a_parameter_or_a_buffer(
    learned: bool, shape: tuple[int, ...]
) -> None:
    value = torch.full(shape, 0.3)
    module = NTXentLoss(nn.Parameter(value) if learned else value)
    names = [
        [name for name, _ in own] for own in (module.named_parameters(), module.named_buffers())
    ]
    assert names == ([["temperature"], []] if learned else [[], ["temperature"]])
    other = NTXentLoss(nn.Parameter(torch.ones(shape)) if learned else torch.ones(shape))
    other.load_state_dict(module.state_dict())
    z0, z1 = torch.randn(2, 6, 4)
    for same in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(z0, z1), nt_xent_loss(z0, z1, value))
    assert copy.deepcopy(module).temperature is not module.temperature
    assert module.to("meta", torch.float64).temperature.device.type == "meta"
    assert module.temperature.dtype == torch.float64


class TestMaxScale:
    """max_scale: max(T, 1 / max_scale), and below that only gradients that raise T."""

    @BACKENDS
    @SHAPES
    @pytest.mark.parametrize("temperature", [0.5, 0.1, 0.02, -1.0])
    def test_value_and_gradients(
        self, temperature: float, shape: tuple[int, ...], backend: str
    ) -> None:
        t = nn.Parameter(torch.full(shape, 0.5, dtype=torch.float64))
        module = NTXentLoss(t, max_scale=8, backend=backend)
        with torch.no_grad():
            t.fill_(temperature)
        z = torch.randn(12, 4, dtype=torch.float64)
        for sign in (-1, 1):  # a descent raises T if positives are far, and lowers it if near
            z0 = z.clone().requires_grad_()
            t.grad = None
            loss = module(z0, sign * z)
            loss.backward()
            x = z.clone().requires_grad_()
            used = torch.tensor(max(temperature, 1 / 8), dtype=torch.float64, requires_grad=True)
            expected = nt_xent_loss(x, sign * z, used, backend="reference")
            expected.backward()
            torch.testing.assert_close(loss, expected)
            torch.testing.assert_close(z0.grad, x.grad)
            passes = sign == -1 or temperature >= 1 / 8
            slope = used.grad if passes else torch.zeros_like(used)
            torch.testing.assert_close(t.grad, slope.reshape(shape))
            assert used.grad.sign() == sign
            assert t.item() == temperature  # the parameter is left alone

    def test_a_learned_temperature_stays_at_the_bound_and_comes_back(self) -> None:
        module = NTXentLoss(nn.Parameter(torch.tensor(0.5)), max_scale=10)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
        z = torch.randn(16, 8)

        def train(z1: Tensor) -> float:
            for _ in range(60):
                optimizer.zero_grad()
                module(z, z1).backward()
                optimizer.step()
            return module.temperature.item()

        assert 0.05 < train(z) < 0.1  # at most a step below
        assert train(torch.randn(16, 8)) > 0.3

    def test_arguments(self) -> None:
        learned = nn.Parameter(torch.tensor(0.5))
        assert ", max_scale=100.0" in repr(NTXentLoss(learned, max_scale=np.float32(100)))
        for value in (0, -1, math.inf, math.nan):
            with pytest.raises(ValueError, match=rf"max_scale must be positive .* got {value}"):
                NTXentLoss(learned, max_scale=value)
        with pytest.raises(ValueError, match=r"max_scale=100 clamps a learned .* got 0\.5"):
            NTXentLoss(0.5, max_scale=100)


@pytest.mark.parametrize("backend", ["fused", "tiled"])
def test_what_foreign_trainers_need_is_compiled_into_one_graph(backend: str) -> None:
    torch.compiler.reset()
    module = NTXentLoss(
        nn.Parameter(torch.full((1,), 0.02)), 0, True, max_scale=10, backend=backend
    )

    def loss(z: Tensor) -> Tensor:
        z0, z1 = z.chunk(2)
        return module(z0.bfloat16(), z1)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    z = torch.randn(12, 4, requires_grad=True)
    inputs = (z, module.temperature)
    expected = torch.autograd.grad(loss(z), inputs)
    torch.testing.assert_close(torch.autograd.grad(compiled(z), inputs), expected)
    torch.testing.assert_close(compiled(z), loss(z))


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
            (z.int(), z.int(), TypeError, r"z0 must have a floating dtype, got torch.int32"),
            (z, z.int(), TypeError, r"z1 must have a floating dtype, got torch.int32"),
            (z.cfloat(), z.cfloat(), TypeError, r"z0 must have a floating dtype"),
            (z, z.to("meta"), ValueError, r"z1 must be on the device of z0, cpu, got meta"),
            (*[z.to(torch.float8_e5m2)] * 2, TypeError, r"z0 must .* got torch.float8_e5m2"),
            (z.tolist(), z, TypeError, r"z0 must be a torch.Tensor, got list"),
            (
                z,
                None,
                TypeError,
                r"z1 is missing: .* \*z\.chunk\(2\) if .* z\[0::2\], z\[1::2\] if",
            ),
            (z[:, None].expand(4, 2, 3), None, TypeError, r"of z \[N, 2, D\], \*z\.unbind\(1\)"),
            (z[:, None].expand(4, 8, 3), None, TypeError, r"pairs two views .* \(4, 8, 3\)"),
        ],
    )
    def test_views(
        self, z0: object, z1: object, error: type[Exception], message: str, backend: str
    ) -> None:
        with pytest.raises(error, match=message):
            nt_xent_loss(z0, z1, backend=backend)
        with pytest.raises(error, match=message):
            NTXentLoss(backend=backend)(z0, z1)

    def test_more_than_two_views(self) -> None:
        with pytest.raises(ValueError, match=r"temperature must be .* got a tensor of shape .4, 3"):
            nt_xent_loss(self.z, self.z, self.z)
        with pytest.raises(TypeError, match="positional arguments"):
            NTXentLoss()(self.z, self.z, self.z)

    @pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"temperature": 0}, ValueError, "temperature must be positive and finite, got 0"),
            ({"temperature": -0.5}, ValueError, "got -0.5"),
            ({"temperature": math.nan}, ValueError, "got nan"),
            ({"temperature": math.inf}, ValueError, "got inf"),
            ({"temperature": 1e-45}, ValueError, "temperature must be from .*, got 1e-45"),
            ({"temperature": torch.tensor(1e38)}, ValueError, r"to 8.5\d+e\+37, got"),
            ({"temperature": torch.tensor(-2.0)}, ValueError, r"temperature .* got -2"),
            ({"temperature": torch.ones(2)}, ValueError, r"\(1,\).*, got .*\(2,\)"),
            ({"temperature": torch.ones(1, 1)}, ValueError, r"got a tensor of shape \(1, 1\)"),
            ({"temperature": np.float32(-1)}, ValueError, "positive and finite, got -1"),
            ({"temperature": np.ones(1)}, TypeError, "temperature must be .* got ndarray"),
            ({"temperature": np.bool_(True)}, TypeError, "temperature must be .* got bool"),
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
        with pytest.raises(
            ValueError, match="on the CPU or on the device of the rows, cpu, got meta"
        ):
            module(self.z, self.z)

    def test_backend(self) -> None:
        with pytest.raises(ValueError, match=r"backend must be one of .* got 'cuda'"):
            nt_xent_loss(self.z, self.z, backend="cuda")
