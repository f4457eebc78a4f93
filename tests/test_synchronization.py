"""On CUDA, no loss waits for the device: scalars in its memory stay there.

Without a GPU: the tensors are fakes, which have a device and no data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import ROOT
from simclr_ext import (
    dcl_loss,
    hcl_loss,
    info_nce_loss,
    nt_xent_loss,
    nt_xent_loss_with_stats,
    siglip_loss,
    sup_con_loss,
)
from simclr_ext.backends import selection
from simclr_ext.backends.ops import register
from tests.torch_faults import needs_fakes_of_cuda

N, D = 8, 4
FUSED = {"backend": "fused"}
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def of_images(loss: Callable[..., Tensor], **options: Any) -> Loss:
    return lambda x, y, t: loss(x, y, temperature=t, **options, **FUSED)


LOSSES: dict[str, Loss] = {
    "NT-Xent": of_images(nt_xent_loss),
    "of each row": of_images(nt_xent_loss, reduction="none"),
    "dot products": of_images(nt_xent_loss, normalize=False),
    "ids": lambda x, y, t: nt_xent_loss(
        x, y, temperature=t, ignore_ids=torch.arange(N, device="cuda"), **FUSED
    ),
    "weights": lambda x, y, t: nt_xent_loss(x, y, temperature=t, weights=x[:, 0], **FUSED),
    "a temperature for each image": lambda x, y, t: nt_xent_loss(
        x, y, temperature=t.expand(N), **FUSED
    ),
    "by-products": lambda x, y, t: nt_xent_loss_with_stats(x, y, temperature=t, **FUSED)[0],
    "InfoNCE": of_images(info_nce_loss),
    "CLIP": lambda x, y, t: info_nce_loss(x, y, logit_scale=t, **FUSED),
    "MoCo": lambda x, y, t: info_nce_loss(
        x, y, temperature=t, negatives=-y.detach(), in_batch=False, **FUSED
    ),
    "SigLIP": lambda x, y, t: siglip_loss(x, y, logit_scale=t, logit_bias=-t, **FUSED),
    "DCL": of_images(dcl_loss),
    "HCL": of_images(hcl_loss),
    "SupCon": lambda x, y, t: sup_con_loss(
        torch.stack([x, y], 1), torch.arange(N, device="cuda"), temperature=t, **FUSED
    ),
}


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels for CUDA are there."""
    register()
    monkeypatch.setattr(selection, "_cuda_obstacle", lambda device: None)


class Waits(TorchDispatchMode):
    """Notes the operations that bring something from the device to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:  # .item(), bool()
            self.names.append(str(function))
        results = function(*args, **(kwargs or {}))
        if "cuda" in devices_of((args, kwargs)) and "cpu" in devices_of(results):
            self.names.append(str(function))
        return results


def devices_of(values: Any) -> set[str]:
    return {value.device.type for value in tree_leaves(values) if isinstance(value, Tensor)}


def run_backward(loss: Tensor) -> int:
    """Call the nodes of the backward pass, as autograd's engine does, which asks for the GPU.

    Returns:
        How many tensors have received a gradient.
    """
    waiting: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    leaves = set()
    while waiting:
        node = max(waiting, key=lambda node: node._sequence_nr())
        given = waiting.pop(node)
        call = getattr(node, "apply", node)  # of Functions in Python, of nodes in C++
        grads = call(*map(given.get, range(len(node._input_metadata))))
        # Functions in Python return None for what is no tensor, too.
        places = [place for place in node.next_functions if place[0] is not None]
        found = [grad for grad in tree_leaves(grads) if grad is not None]
        for (following, index), grad in zip(places, found, strict=True):
            if "AccumulateGrad" in following.name():
                leaves.add(following)
                continue
            grad = grad.sum_to_size(following._input_metadata[index].shape)
            sums = waiting.setdefault(following, {})
            sums[index] = sums[index] + grad if index in sums else grad
    return len(leaves)


@needs_fakes_of_cuda
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_with_a_learned_temperature_waits_for_nothing(name: str) -> None:
    with FakeTensorMode(), Waits() as waits:
        x, y = (torch.empty(N, D, device="cuda", requires_grad=True) for _ in range(2))
        temperature = torch.empty((), device="cuda", requires_grad=True)
        with_grad = run_backward(LOSSES[name](x, y, temperature).sum())
    assert waits.names == []
    assert with_grad == 3


# What lets the host wait for the device, or reads its memory.
WAITING = re.compile(
    r"\.item\b|\.cpu\(|\.to\(at::kCPU|[sS]ynchronize|cudaMemcpy|_local_scalar_dense|\.nonzero\("
)
CUDA_SOURCES = sorted((ROOT / "csrc" / "cuda").iterdir())


@pytest.mark.parametrize("source", CUDA_SOURCES, ids=lambda source: source.name)
def test_no_source_of_the_fused_kernels_waits(source: Path) -> None:
    """Their host code does not run on fakes."""
    found = [line for line in source.read_text().splitlines() if WAITING.search(line)]
    assert found == []


@needs_fakes_of_cuda
def test_a_step_of_tiled_waits_once() -> None:
    """It takes the temperature on the CPU."""
    with FakeTensorMode(), Waits() as waits:
        x = torch.empty(N, D, device="cuda", requires_grad=True)
        temperature = torch.empty((), device="cuda", requires_grad=True)
        run_backward(nt_xent_loss(x, -x, temperature, backend="tiled"))
    assert waits.names == ["aten._to_copy.default"]


@needs_fakes_of_cuda
@pytest.mark.parametrize("temperature", ["number", "on the CPU", "on the device"])
def test_compiled_code_has_all_scalars_on_the_device(temperature: str) -> None:
    """A CUDA graph would record those of the host as constants."""
    devices: list[str] = []

    def look(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        for node in graph.graph.nodes:
            if "simclr_ext" in str(node.target) or "_NTXent" in str(node.target):
                devices.extend(x.meta["example_value"].device.type for x in node.all_input_nodes)
        return graph.forward

    @torch.compile(fullgraph=True, backend=look)
    def loss(z: Tensor, t: float | Tensor) -> Tensor:
        return nt_xent_loss(z, -z, t, backend="fused")

    with FakeTensorMode():
        z = torch.empty(N, D, device="cuda")
        t = {
            "number": 0.3,
            "on the CPU": torch.empty(()),
            "on the device": torch.empty((), device="cuda"),
        }[temperature]
        loss(z, t)
    assert devices
    assert set(devices) == {"cuda"}
