"""The loss as a function of torch's autograd, in C++ for eager mode: as its Python counterpart."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from simclr_ext import dcl_loss, info_nce_loss, nt_xent_loss, siglip_loss
from simclr_ext.backends import ops
from simclr_ext.backends.reference import Reduction

INPUTS = {
    "both views": (True, True, False),
    "the first": (True, False, False),
    "the second": (False, True, False),
    "temperature": (False, False, True),
    "all": (True, True, True),
}


# Up to 256 pairs loss and gradients are one operator, in an autograd function of its own.
SIZES = pytest.mark.parametrize("n", [9, 257])


def inputs(needed: tuple[bool, bool, bool], dtype: torch.dtype, n: int = 9) -> list[Tensor]:
    """Return views and a temperature, of which some need gradients."""
    tensors = [torch.randn(n, 5).to(dtype), torch.randn(n, 5).to(dtype), torch.tensor(0.3)]
    return [x.requires_grad_(needs) for x, needs in zip(tensors, needed, strict=True)]


def results(tensors: list[Tensor], reduction: Reduction, scale: float = 1) -> list[Tensor]:
    """Return the loss, and the gradients of those that need one."""
    loss = nt_xent_loss(*tensors, reduction=reduction)
    wanted = [x for x in tensors if x.requires_grad]
    weights = scale * (torch.arange(loss.numel()).view_as(loss) + 1.0)
    grads = torch.autograd.grad(loss, wanted, weights)
    return [loss.detach(), *grads]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n", [9, 101, 256, 257])
def test_same_bits_as_in_python(
    n: int, name: str, reduction: Reduction, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = inputs(INPUTS[name], dtype, n)
    found = results(tensors, reduction)
    assert "CppNode" in nt_xent_loss(*tensors).grad_fn.name()
    monkeypatch.setattr(ops, "is_plain_eager", lambda: False)
    assert "CppNode" not in nt_xent_loss(*tensors).grad_fn.name()
    for value, expected in zip(found, results(tensors, reduction), strict=True):
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("reduction", "at_once"), [("mean", True), ("sum", True), ("none", False)])
@pytest.mark.parametrize("n", [1, 256, 257])
def test_loss_and_gradients_of_small_batches_are_one_operator(
    n: int, reduction: Reduction, at_once: bool
) -> None:
    loss = nt_xent_loss(*inputs((True, False, False), torch.float32, n), reduction=reduction)
    assert ("AtOnce" in loss.grad_fn.name()) == (at_once and n <= 256)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_may_be_scaled(reduction: Reduction, dtype: torch.dtype) -> None:
    tensors = inputs((True, True, True), dtype)
    loss, *grads = results(tensors, reduction)
    scaled_loss, *scaled = results(tensors, reduction, scale=2.0**16)  # as a GradScaler does
    assert torch.equal(scaled_loss, loss)
    for value, expected in zip(scaled, grads, strict=True):
        assert torch.equal(value, expected * 2.0**16)


@SIZES
def test_gradients_belong_to_who_receives_them(n: int) -> None:
    z0, z1, t = inputs((True, True, False), torch.float32, n)
    loss = nt_xent_loss(z0, z1, t)
    (first,) = torch.autograd.grad(loss, z0, retain_graph=True)
    expected = first.clone()
    first.zero_()
    assert torch.equal(*torch.autograd.grad(loss, z0), expected)


def test_nothing_is_recorded_without_need() -> None:
    z0, z1, t = inputs((False, False, False), torch.float32)
    assert nt_xent_loss(z0, z1, t).grad_fn is None
    z0.requires_grad_()
    with torch.no_grad():
        assert nt_xent_loss(z0, z1, t).grad_fn is None
    with torch.inference_mode():
        assert nt_xent_loss(z0, z1, t).is_inference()


@SIZES
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_memory_is_freed_with_the_loss(reduction: Reduction, n: int) -> None:
    """A node that saved its own output would keep itself alive."""

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    held: weakref.WeakSet[Saved] = weakref.WeakSet()

    def keep(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        held.add(saved)
        return saved

    gc.disable()
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor):
            loss = nt_xent_loss(*inputs((True, True, False), torch.float32, n), reduction=reduction)
        assert len(held) >= 4
        del loss
        assert len(held) == 0
    finally:
        gc.enable()


@SIZES
def test_gradients_twice_need_a_kept_graph(n: int) -> None:
    z0, z1, t = inputs((True, True, False), torch.float32, n)
    loss = nt_xent_loss(z0, z1, t)
    first = torch.autograd.grad(loss, z0, retain_graph=True)
    second = torch.autograd.grad(loss, z0)
    assert torch.equal(*first, *second)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, z0)


@SIZES
def test_changed_views_are_noticed(n: int) -> None:
    z0, z1, t = inputs((True, True, False), torch.float32, n)
    changed = z1.clone()
    loss = nt_xent_loss(z0, changed, t)
    changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "NT-Xent": nt_xent_loss,
    "InfoNCE": info_nce_loss,
    "DCL": dcl_loss,
    "SigLIP": lambda x, y, t, **options: siglip_loss(x, y, 3.0, t, **options),
    "SigLIP, scale": lambda x, y, t, **options: siglip_loss(x, y, t, -1.0, **options),
}
REFUSED = pytest.raises(NotImplementedError, match=r"differentiable once.*backend='reference'")


@SIZES
@pytest.mark.parametrize("backend", ["fused", "tiled"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "second", "scalar"])
def test_second_derivatives_are_refused(which: int, loss: str, backend: str, n: int) -> None:
    """Whichever input has a gradient: the others may have none."""
    tensors = inputs((which == 0, which == 1, which == 2), torch.float32, n)
    value = LOSSES[loss](*tensors, backend=backend)
    (grad,) = torch.autograd.grad(value, tensors[which], create_graph=True)
    with REFUSED:
        torch.autograd.grad(value + grad.pow(2).sum(), tensors[which])


@pytest.mark.parametrize("backend", ["fused", "tiled"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "second", "scalar"])
def test_second_derivatives_of_functions_are_refused(which: int, loss: str, backend: str) -> None:
    tensors = inputs((False, False, False), torch.float32)

    def function(x: Tensor) -> Tensor:
        given = [x if place == which else tensor for place, tensor in enumerate(tensors)]
        return LOSSES[loss](*given, backend=backend)

    first = torch.func.grad(function)
    with REFUSED:
        torch.func.grad(lambda x: first(x).sum())(tensors[which])


def saved_on_the_way(run: Callable[[], Tensor]) -> int:
    """Return how many tensors the hooks of saved tensors have seen."""
    seen = []

    def keep(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        run().backward()
    return len(seen)


@SIZES
def test_hooks_of_saved_tensors_see_what_is_saved(n: int) -> None:
    tensors = inputs((True, True, True), torch.float32, n)
    assert saved_on_the_way(lambda: nt_xent_loss(*tensors)) >= 4


@SIZES
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing(use_reentrant: bool, n: int) -> None:
    z0, z1, t = inputs((True, True, False), torch.float32, n)
    expected = torch.autograd.grad(nt_xent_loss(z0, z1, t), [z0, z1])
    checkpoint(nt_xent_loss, z0, z1, t, use_reentrant=use_reentrant).backward()
    assert torch.equal(z0.grad, expected[0])
    assert torch.equal(z1.grad, expected[1])
