"""Invalid inputs of the contrastive operators, and their error messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.backends import ops
from tests.contrastive import operators

BACKENDS = pytest.mark.parametrize("backend", ["fused", "tiled"])


@pytest.fixture(autouse=True)
def _registered() -> None:
    ops.register()


X = torch.randn(6, 3)
T = torch.tensor(0.3, dtype=torch.float64)
LABEL = torch.zeros(12, dtype=torch.int32)
WRONG_PAIRINGS = [
    ({"shifts": [0, 1, 2]}, ValueError, r"shifts must be at most 2, got \[0, 1, 2\]"),
    ({"shifts": [1, 1]}, ValueError, r"shifts must differ, got \[1, 1\]"),
    ({"y": None, "shifts": [0]}, ValueError, r"shifts must be \[\] or \[k, -k\].* got \[0\]"),
    ({"y": None, "shifts": [-2, 2]}, ValueError, r"shifts must be .* 0 < k < 6 .* got \[-2, 2\]"),
    ({"y": None, "shifts": [2, -3]}, ValueError, r"shifts must be .* got \[2, -3\]"),
    ({"y": None, "shifts": [6, -6]}, ValueError, r"shifts must be .* got \[6, -6\]"),
    ({"y": None, "shifts": [1, -(2**63)]}, ValueError, r"shifts must be .* got \[1, -9223"),
    ({"shifts": [0], "label": LABEL}, ValueError, r"labels need shifts = \[\], got \[0\]"),
    ({"label": LABEL.long()}, TypeError, "label must be int32, got .*(long|int64)"),
    ({"label": LABEL[:5]}, ValueError, r"label must be \[rows of z\] = \[12\], got shape \[5\]"),
    ({"y": None, "label": LABEL}, ValueError, r"label must be \[rows of z\] = \[6\], got .*12"),
    ({"label": LABEL[None]}, ValueError, r"label must be .* = \[12\], got shape \[1, 12\]"),
    ({"label": LABEL.to("meta")}, ValueError, "label must be on cpu, got meta"),
    ({"ignored": LABEL.bool()}, TypeError, "ignored must be int32, got .*bool"),
    ({"ignored": LABEL[:6]}, ValueError, r"ignored must be .* = \[12\], got shape \[6\]"),
    ({"denominator": "none"}, ValueError, "denominator must be .*negatives.* got .*none"),
    ({"owned": [0, 3]}, ValueError, r"owned must be \[\] where y is given, got \[0, 3\]"),
    ({"y": None, "owned": [3]}, ValueError, r"owned must be \[\] or \[begin, end\].* got \[3\]"),
    ({"y": None, "owned": [3, 3]}, ValueError, r"owned must be .* got \[3, 3\]"),
    ({"y": None, "owned": [-1, 3]}, ValueError, r"owned must be .* got \[-1, 3\]"),
    ({"y": None, "owned": [0, 7]}, ValueError, r"owned must be .* end <= 6, got \[0, 7\]"),
]  # fmt: skip
PAIRING = {"shifts": [], "label": None, "ignored": None, "denominator": "all", "owned": []}


@BACKENDS
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        *WRONG_PAIRINGS,
        ({"x": X[0]}, ValueError, r"x must be \[R, D\] with R >= 1 and D >= 1, got .*3"),
        ({"x": X[:0]}, ValueError, r"x must be \[R, D\] with R >= 1 and D >= 1, got .*0, 3"),
        ({"y": X[:0]}, ValueError, r"y must be \[C, .*\] with C >= 1.*, got .*0, 3"),
        ({"y": X[:, :2]}, ValueError, r"y must be \[C, 3\] with C >= 1, got .*6, 2"),
        (
            {"y": X.double()},
            TypeError,
            "y must have the dtype of x, .*float.*, got .*(double|float64)",
        ),
        ({"y": X.to("meta")}, ValueError, "y must be on the device of x, cpu, got meta"),
        (
            {"x": X.int()},
            TypeError,
            "x must .*float64, float32, bfloat16 .*|x must have a floating dtype, got .*int",
        ),
        ({"temperature": -T}, ValueError, "temperature must be positive and finite, got -0.3"),
        ({"temperature": T.float()}, TypeError, "temperature must be float64"),
        ({"eps": 0.0}, ValueError, "eps must be at least"),
    ],
)
def test_the_forward_operator_checks_its_inputs(
    changes: dict[str, object], error: type[Exception], message: str, backend: str
) -> None:
    inputs = {"x": X, "y": X, "temperature": T, "normalize": True, "eps": 1e-6, **PAIRING}
    with pytest.raises(error, match=message):
        operators(backend)[0](**(inputs | changes))


@BACKENDS
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        *WRONG_PAIRINGS,
        ({"rows": 0}, ValueError, "rows must be 1 to 12, the rows of z, got 0"),
        ({"rows": 13}, ValueError, "rows must be 1 to 12, the rows of z, got 13"),
        ({"dim": 4}, ValueError, "dim must be 1 to 3, the columns of z, got 4"),
        ({"dim": 2}, ValueError, r"z must be \[.*, D\] with D = dim = 2, got .*\[12, 3\]"),
        ({"grad_lse": X[:, 0]}, ValueError, r"grad_lse must be .* = \[12\], got shape \[6\]"),
        ({"lse": X[:, 0]}, ValueError, r"lse must be \[.*\] = \[12\], got shape \[6\]"),
        ({"lse": X.repeat(2, 1)[:, 0]}, TypeError, "lse must be .*float64, got .*float"),
        ({"z": X[0]}, ValueError, r"z must be \[.*, D\] .* got shape \[3\]"),
        ({"temperature": -T}, ValueError, "temperature must be positive .*, got -0.3"),
        ({"eps": 0.0}, ValueError, "eps must be at least"),
    ],
)
def test_the_backward_operator_checks_its_inputs(
    changes: dict[str, object], error: type[Exception], message: str, backend: str
) -> None:
    y = changes.get("y", X)
    loss, lse, z, inv_norm = operators(backend)[0](X, y, T, True, 1e-6, **PAIRING)
    inputs = {
        "grad_loss": loss,
        "grad_lse": lse,
        "loss": loss,
        "lse": lse,
        "z": z,
        "inv_norm": inv_norm,
    }
    inputs |= {
        "inv_norm": inv_norm,
        "dim": 3,
        "rows": 6,
        "temperature": T,
        "eps": 1e-6,
        "needs_grad": [True] * 3,
    }
    inputs |= PAIRING
    inputs |= {name: value for name, value in changes.items() if name != "y"}
    with pytest.raises(error, match=message):
        operators(backend)[1](**inputs)


@BACKENDS
@pytest.mark.parametrize("rows", [2**48, 2**62])
def test_rows_of_stride_0_beyond_all_memory_are_refused(rows: int, backend: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"at most 4294967296|allocate|verflow"):
        operators(backend)[0](X[:1].expand(rows, 3), None, T, True, 1e-6, **PAIRING)


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn])
def test_rows_of_other_layouts_are_refused(change: Callable[[Tensor], Tensor]) -> None:
    inputs = (change(X), None, T, True, 1e-6)
    with pytest.raises(TypeError, match="x must be a dense tensor, got layout torch"):
        operators("tiled")[0](*inputs, **PAIRING)
    with pytest.raises(NotImplementedError, match="Could not run"):
        operators("fused")[0](*inputs, **PAIRING)
    with pytest.raises(TypeError, match="z0 must be a dense tensor, got layout torch"):
        nt_xent_loss(change(X), X)


@BACKENDS
@pytest.mark.parametrize("size", [0, 20])
def test_rows_whose_storage_was_given_back_are_refused(size: int, backend: str) -> None:
    x = X.clone()
    x.untyped_storage().resize_(size)
    with pytest.raises(ValueError, match=rf"x must have data, .* storage of {size} bytes"):
        operators(backend)[0](x, None, T, True, 1e-6, **PAIRING)
