"""The selection of the backend, and its reasons; for CUDA with tensors that have no data."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from simclr_ext import (
    BackendChoice,
    BackendUnavailableError,
    nt_xent_loss,
    nt_xent_loss_with_stats,
    select_backend,
    siglip_loss,
)
from simclr_ext.backends import loader, ops, selection
from simclr_ext.backends.sigmoid import sigmoid
from tests.torch_faults import needs_fakes_of_cuda


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    yield
    selection._cached_cuda_obstacle.cache_clear()
    selection._warn_once.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Yield a machine with one GPU, whose capability and kernels the test may change."""
    machine = SimpleNamespace(capability=(9, 0), cuda_architectures=["sm_80", "sm_90a"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: machine.capability)
    ops.register()  # the real kernels, which trace
    monkeypatch.setattr(loader, "load", lambda: machine)
    with FakeTensorMode():
        yield machine


def cuda_views(d: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    z0, z1 = (torch.empty(6, d, dtype=dtype, device="cuda") for _ in range(2))
    return z0, z1


def test_cpu_is_fused() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16):
        z = torch.randn(4, 300).to(dtype)
        expected = BackendChoice("fused", "there are fused kernels for device cpu")
        assert select_backend(z) == expected


@pytest.mark.parametrize("backend", ["fused", "tiled", "reference"])
def test_what_is_asked_for_is_what_runs(backend: str) -> None:
    assert select_backend(torch.randn(4, 3), backend).name == backend


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match=r"backend must be one of .* got 'cuda'"):
        select_backend(torch.randn(4, 3), "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("d", [1, 256, 257, 4096])
@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0)])
def test_cuda_is_fused(
    d: int, dtype: torch.dtype, capability: tuple[int, int], machine: SimpleNamespace
) -> None:
    machine.capability = capability
    for backend in ("auto", "fused"):
        assert select_backend(cuda_views(d, dtype)[0], backend).name == "fused"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("dtype", "memory"),
    [
        (torch.float32, "64 MiB, and fused"),
        (torch.bfloat16, "64 MiB, and 32 MiB in the backward pass, and fused"),
    ],
    ids=str,
)
def test_the_choice_says_what_wide_views_cost(dtype: torch.dtype, memory: str) -> None:
    assert select_backend(cuda_views(256, dtype)[0]).reason.startswith("there are fused kernels")
    reason = select_backend(cuda_views(257, dtype)[0]).reason
    assert reason.startswith(f"cuBLAS multiplies views with D > 256, in tiles of up to {memory}")


def test_wide_halves_are_tiled_without_products_of_halves(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "HAS_PRODUCTS_OF_HALVES", False)
    choice = select_backend(cuda_views(257, torch.bfloat16)[0])
    assert choice.name == "tiled"
    assert choice.reason.startswith("torch.bfloat16 views with D > 256 need torch 2.8 or newer")
    for d, dtype in ((256, torch.bfloat16), (257, torch.float32)):
        assert select_backend(cuda_views(d, dtype)[0]).name == "fused"


@pytest.mark.parametrize(
    ("d", "dtype", "changes", "reason"),
    [
        (8, torch.float64, {}, "take float32, bfloat16 and float16 views, got torch.float64"),
        (8, torch.float32, {"capability": (7, 5)}, "need compute capability 8.0.* is 7.5"),
        (8, torch.float32, {"capability": (12, 0)}, "compiled for sm_80, sm_90a, and .* 12.0"),
        (8, torch.float32, {"cuda_architectures": []}, "compiled without CUDA"),
    ],
    ids=["float64", "old GPU", "other GPU", "CPU-only build"],
)
def test_cuda_that_fused_cannot_serve_is_tiled_and_says_so(
    d: int,
    dtype: torch.dtype,
    changes: dict[str, object],
    reason: str,
    machine: SimpleNamespace,
) -> None:
    vars(machine).update(changes)
    z0, z1 = cuda_views(d, dtype)
    with pytest.warns(UserWarning, match=reason):
        loss = nt_xent_loss(z0, z1)
    assert loss.device.type == "cuda"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once per reason; and never for what was asked for
        nt_xent_loss(z0, z1)
        nt_xent_loss(z0, z1, backend="tiled")
    with pytest.raises(BackendUnavailableError, match=reason):
        nt_xent_loss(z0, z1, backend="fused")


def test_failed_compilation_is_a_reason_and_is_tried_once(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def fail() -> None:
        attempts.append(1)
        raise BackendUnavailableError("nvcc: out of memory")

    monkeypatch.setattr(loader, "load", fail)
    z0, z1 = cuda_views()
    with pytest.warns(UserWarning, match="nvcc: out of memory"):
        nt_xent_loss(z0, z1)
    assert select_backend(z0) == BackendChoice("tiled", "nvcc: out of memory")
    assert len(attempts) == 1


def test_a_prebuilt_module_of_another_torch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(version: str) -> object:
        module = SimpleNamespace(torch_version=version)
        monkeypatch.setitem(sys.modules, "simclr_ext._C", module)
        assert loader.load.__wrapped__() is module
        return module

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(torch.__version__.partition("+")[0])
    with pytest.warns(UserWarning, match=r"was built for torch 1\.9\.0, and this is torch 2\."):
        load("1.9.0")


def test_other_devices_are_tiled() -> None:
    class OnMps(torch.Tensor):
        device = torch.device("mps")

    z = torch.randn(4, 3).as_subclass(OnMps)
    assert select_backend(z) == BackendChoice("tiled", "there are no fused kernels for device mps")
    with pytest.raises(BackendUnavailableError, match=r"for device mps.*backend='tiled'"):
        select_backend(z, "fused")


@pytest.mark.parametrize(
    ("architecture", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),  # machine code serves later minor versions
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_100", (10, 3), True),
        ("sm_100a", (10, 3), False),  # but not if it is specific to one
        ("sm_120", (12, 0), True),
        ("compute_80", (12, 0), True),
        ("compute_90", (8, 9), False),
    ],
)
def test_runs_on(architecture: str, capability: tuple[int, int], runs: bool) -> None:
    assert selection.runs_on(architecture, capability) == runs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fused_cuda_operators_keep_the_dtype_of_the_views(
    dtype: torch.dtype, machine: SimpleNamespace
) -> None:
    z0, z1 = cuda_views(5, dtype)
    t = torch.tensor(0.5, dtype=torch.float64)
    loss, lse, z, inv_norm = torch.ops.simclr_ext.nt_xent_forward(z0, z1, t, True, 1e-6)
    assert (loss.dtype, lse.dtype, inv_norm.dtype) == (torch.float32, torch.float64, torch.float32)
    assert z.dtype == dtype
    # 16 bytes, or 32. What is copied is the whole of it, with the zeros that pad the rows.
    assert z.shape == (12, 8)
    assert z.is_contiguous()
    grad_z, grad_t = torch.ops.simclr_ext.nt_xent_backward(
        loss, loss, lse, z, inv_norm, 5, t, 1e-6, [True, True, True]
    )
    assert (grad_z.dtype, grad_z.shape) == (dtype, (12, 5))
    assert (grad_t.device.type, grad_t.shape) == ("cuda", ())
    unscaled = torch.ops.simclr_ext.nt_xent_forward(z0, z1, t, False, 1e-6)
    assert unscaled[3].shape == (0,)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("d", [32, 300])
def test_traces_for_cuda_with_dynamic_shapes(d: int) -> None:
    class Loss(torch.nn.Module):
        def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
            return nt_xent_loss(z0, z1)

    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            Loss(), cuda_views(d), dynamic_shapes=(dynamic, dynamic), strict=True
        )
    names = [str(node.target) for node in program.graph.nodes]
    assert "simclr_ext.nt_xent_forward.default" in names


WITHOUT_COMPILER = """
import torch, simclr_ext
z = torch.randn(2, 5, 3, requires_grad=True)
simclr_ext.nt_xent_loss(*z, backend="tiled").backward()
try:
    simclr_ext.nt_xent_loss(*z)
except simclr_ext.BackendUnavailableError as error:
    print(z.grad.isfinite().all().item(), "no C++ compiler" in str(error), "'tiled'" in str(error))
"""


def test_tiled_needs_no_compiled_module(tmp_path: object) -> None:
    env = {"PATH": "", "CXX": "no-such-c++", "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "True True True\n"


@needs_fakes_of_cuda
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_sigmoid_loss_on_cuda_saves_rows_of_the_views_dtype(dtype: torch.dtype) -> None:
    queries, keys = (z.requires_grad_() for z in cuda_views(dtype=dtype))
    scale, bias = (torch.empty((), device="cuda", requires_grad=True) for _ in range(2))
    loss = sigmoid(queries, keys, scale, bias, normalize=True, eps=1e-6, backend="fused")
    _, z, inv_norm = loss.grad_fn.saved_tensors[:3]
    grads = loss.grad_fn.apply(torch.ones_like(loss), None, None, None)
    assert [x.device.type for x in grads if x is not None] == ["cuda"] * 4
    assert (z.dtype, z.shape, inv_norm.dtype) == (dtype, (12, 8), torch.float32)


@needs_fakes_of_cuda
@pytest.mark.usefixtures("machine")
def test_scale_and_bias_of_the_tiled_operators_are_on_the_host() -> None:
    z, _ = cuda_views()
    scale = torch.ones((), dtype=torch.float64, device="cuda")
    args = (z, z, scale, scale, True, 1e-6, [0])
    torch.ops.simclr_ext.sigmoid_forward(*args)
    with pytest.raises(ValueError, match="scale must be on the CPU, got cuda:0"):
        torch.ops.simclr_ext.sigmoid_tiled_forward(*args)


@needs_fakes_of_cuda
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("d", [8, 300])
@pytest.mark.parametrize(
    ("loss", "operator"),
    [(siglip_loss, "sigmoid_forward"), (nt_xent_loss_with_stats, "contrastive_stats")],
)
def test_every_loss_is_fused_on_cuda(loss: Callable[..., object], operator: str, d: int) -> None:
    called = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            called.append(str(function))
            return function(*args, **(kwargs or {}))

    with warnings.catch_warnings(), Names():
        warnings.simplefilter("error")
        loss(*cuda_views(d))
    assert f"simclr_ext.{operator}.default" in called
