"""The operators over ranks refuse what they cannot compute, before the ranks meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from simclr_ext.backends import ops
from simclr_ext.distributed import operators  # noqa: F401, defines them

T = torch.tensor(0.3, dtype=torch.float64)
X, Y = torch.randn(3, 2), torch.randn(4, 2)
SIZES = torch.tensor([[3, 4]])
IDS = torch.arange(3)
IDS7 = torch.arange(7, dtype=torch.int32)
LABELED = {"y": None, "sizes": SIZES[:, [0, 0]], "shifts": [], "label": IDS7[:3]}
LABELED_SAVED = {"rows": 7, "sizes": SIZES[:, [0, 0]] + 4, "shifts": [], "label": IDS7}


def given(arguments: dict[str, Any], changes: dict[str, Any], group: Any) -> dict[str, Any]:
    """Return changed arguments; that named "freed" has no storage, as FSDP leaves a parameter."""
    freed = changes.get("freed")
    arguments = {**arguments, "group": group.group_name, **changes}
    arguments.pop("freed", None)
    if freed is not None:
        arguments[freed] = arguments[freed].clone()
        arguments[freed].untyped_storage().resize_(0)
    return arguments


def call(rank: int, group: Any, name: str, changes: dict[str, Any]) -> Any:
    ops.register()
    arguments: dict[str, Any] = {
        "ranks_agree": {
            **{"values": T[None], "rows": [3, 4], "names": "temperature,weights given"},
            **{"facts": [0.0], "least": 1},
        },
        "ranks_reduce": {"values": X, "operation": "sum", "after": None},
        "ranks_numbers": {"ids": IDS, "sizes": SIZES, "after": None},
        "ranks_contrastive_forward": {
            **{"x": X, "y": Y, "temperature": T, "sizes": SIZES, "normalize": True, "eps": 1e-6},
            **{"shifts": [0], "label": None, "ignored": None, "denominator": "all"},
            **{"backend": "fused", "exchange": "gather", "after": None},
        },
        "ranks_sigmoid_forward": {
            **{"x": X, "y": Y, "scale": T, "bias": T, "sizes": SIZES, "normalize": True},
            **{"eps": 1e-6, "shifts": [0], "backend": "tiled", "exchange": "ring", "after": None},
        },
    }[name]
    arguments = given(arguments, changes, group)
    return [value.shape for value in getattr(torch.ops.simclr_ext, name)(**arguments)]


FORWARD, SIGMOID = "ranks_contrastive_forward", "ranks_sigmoid_forward"


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        (FORWARD, {"backend": "fast"}, ValueError, "backend must be one of .* got 'fast'"),
        (FORWARD, {"exchange": "mail"}, ValueError, "exchange must be one of .* got 'mail'"),
        (FORWARD, {"sizes": SIZES.float()}, TypeError, "sizes must be int64, got torch.float32"),
        (FORWARD, {"sizes": SIZES[0]}, ValueError, r"sizes must be \[G, 2\] = \[1, 2\], .* \[2\]"),
        (FORWARD, {"sizes": -SIZES}, ValueError, r"sizes must be at least 1, got \[\[-3, -4\]\]"),
        (FORWARD, {"sizes": SIZES + 1}, ValueError, r"sizes must be \[3, 4\] .* got \[4, 5\]"),
        (FORWARD, {"sizes": SIZES.to_sparse()}, TypeError, "sizes must be a dense tensor"),
        (FORWARD, {"x": X.to_sparse()}, TypeError, "x must be a dense tensor, got .*sparse_coo"),
        (
            FORWARD,
            {"label": IDS7, "shifts": []},
            ValueError,
            "labels need columns that are the rows",
        ),
        (
            FORWARD,
            {"y": None, "sizes": SIZES[:, [0, 0]], "label": IDS7[:3], "shifts": [1, -1]},
            ValueError,
            r"labels need shifts = \[\], got \[1, -1\]",
        ),
        (FORWARD, {"denominator": "positives"}, ValueError, "'positives' needs labels, got none"),
        (FORWARD, {"ignored": IDS7[0]}, ValueError, r"ignored must be \[rows of z\] = \[7\]"),
        (FORWARD, {"ignored": IDS7.long()}, TypeError, "ignored must be int32, got torch.int64"),
        (FORWARD, {"ignored": IDS7.to("meta")}, ValueError, "ignored must be on cpu, got meta"),
        (
            FORWARD,
            {"ignored": IDS7, "freed": "ignored"},
            ValueError,
            r"ignored must have data",
        ),
        (
            FORWARD,
            {**LABELED, "freed": "label"},
            ValueError,
            r"label must have data, got shape \[3\]",
        ),
        (FORWARD, {"shifts": [0, 1, 2]}, ValueError, r"shifts must be at most 2, got \[0, 1, 2\]"),
        (FORWARD, {"temperature": -T}, ValueError, "temperature must be positive and finite"),
        (FORWARD, {"eps": 0.0}, ValueError, "eps must be at least"),
        (SIGMOID, {"shifts": [0, 0]}, ValueError, r"shifts must differ, got \[0, 0\]"),
        (SIGMOID, {"scale": -T}, ValueError, "scale must be positive and finite, got -0.3"),
        # An argument without data: without a check, results would be random numbers.
        (
            FORWARD,
            {"temperature": T.to("meta")},
            ValueError,
            "temperature must be on cpu, got meta",
        ),
        (FORWARD, {"y": Y.to("meta")}, ValueError, "y must be on"),
        (SIGMOID, {"scale": T.to("meta")}, ValueError, "scale must be on cpu, got meta"),
        (SIGMOID, {"sizes": SIZES.to("meta")}, ValueError, "sizes must be on cpu, got meta"),
        (
            "ranks_numbers",
            {"sizes": SIZES.to("meta")},
            ValueError,
            "sizes must be on cpu, got meta",
        ),
        ("ranks_agree", {"values": T[None].to("meta")}, ValueError, "values must be on cpu"),
        (SIGMOID, {"backend": ""}, ValueError, "backend must be one of"),
        ("ranks_reduce", {"operation": "mean"}, ValueError, "operation must be one of .* 'mean'"),
        ("ranks_numbers", {"ids": IDS / 2}, TypeError, "ids must be integers, got torch.float32"),
        ("ranks_numbers", {"ids": IDS[:2]}, ValueError, r"sizes must be \[2\] .* got \[3\]"),
        ("ranks_numbers", {"ids": IDS[None]}, ValueError, r"ids must be \[N\], got shape \[1, 3\]"),
        ("ranks_agree", {"values": T}, ValueError, r"values must be \[1\] on the CPU, .* \[\]"),
        ("ranks_agree", {"values": X[0]}, TypeError, "values must be float64"),
        ("ranks_agree", {"facts": []}, ValueError, r"values must be \[2\] on the CPU"),
    ],
)
def test_refused(
    name: str,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    run: Callable[..., list[Any]],
) -> None:
    (found,) = run(call, 1, name, {})
    assert not isinstance(found, Exception), found
    (found,) = run(call, 1, name, changes)
    with pytest.raises(error, match=message):
        raise found


SAVED = {
    **{"grad_loss": torch.ones(7), "grad_lse": None, "loss": torch.ones(7)},
    **{"lse": torch.ones(7, dtype=torch.float64), "z": torch.randn(7, 2)},
    **{"inv_norm": torch.ones(7), "visitors": torch.ones(0, 2), "visitors_inv_norm": torch.ones(0)},
    **{"dim": 2, "rows": 3, "temperature": T, "sizes": SIZES, "eps": 1e-6, "shifts": [0]},
    **{"label": None, "ignored": None, "denominator": "all", "needs_temperature": True},
    **{"backend": "tiled", "exchange": "gather", "after": None},
}


def call_backward(rank: int, group: Any, changes: dict[str, Any]) -> Any:
    ops.register()
    arguments = given(SAVED, changes, group)
    return torch.ops.simclr_ext.ranks_contrastive_backward(**arguments)[0].shape


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"grad_lse": IDS7}, TypeError, "grad_lse must .* got torch.int32"),
        ({"grad_lse": torch.ones(1)}, ValueError, r"grad_lse must be \[rows of z\] = \[7\]"),
        (
            {"visitors": torch.ones(7, 9)},
            ValueError,
            r"visitors must be \[0, 2\], got",
        ),
        ({"visitors_inv_norm": torch.ones(3)}, ValueError, r"visitors_inv_norm must be \[0\]"),
        (
            {"exchange": "gather once", "visitors": torch.ones(0, 2).double()},
            TypeError,
            "visitors must have the dtype of z",
        ),
        ({**LABELED_SAVED, "freed": "label"}, ValueError, "label must have data"),
        ({"temperature": T * 1e39}, ValueError, "temperature must be from"),
    ],
)
def test_backward_refuses(
    changes: dict[str, Any], error: type[Exception], message: str, run: Callable[..., list[Any]]
) -> None:
    (found,) = run(call_backward, 1, {})
    assert found == (7, 2), found
    (found,) = run(call_backward, 1, changes)
    with pytest.raises(error, match=message):
        raise found
