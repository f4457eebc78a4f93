"""What differs between versions of torch, at the version that is installed."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from simclr_ext._torch_compat import (
    HAS_PRODUCTS_OF_HALVES,
    OPERATOR_TAGS,
    are_transforms_active,
    is_forward_mode_active,
)
from simclr_ext.backends import ops
from tests.torch_faults import VERSION


def test_cuda_graphs_are_told_not_to_hold_operators_that_read_from_the_host() -> None:
    expected = ["cudagraph_unsafe"] if VERSION >= (2, 8) else []
    assert [tag.name for tag in OPERATOR_TAGS] == expected
    operators = ops.torch.ops.simclr_ext
    for operator in (operators.nt_xent_tiled_forward, operators.nt_xent_tiled_backward):
        assert set(OPERATOR_TAGS) <= set(operator.default.tags)


def test_halves_are_multiplied_into_floats_from_some_version_on() -> None:
    assert (VERSION >= (2, 8)) == HAS_PRODUCTS_OF_HALVES


def test_transforms_and_forward_mode_are_seen() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append((are_transforms_active(), is_forward_mode_active()))
        return x

    x = torch.ones(2)
    look(x)
    torch.func.vmap(look)(x)
    torch.func.grad(lambda x: look(x).sum())(x)
    with forward_ad.dual_level():
        look(x)
    look(x)
    assert seen == [(False, False), (True, False), (True, False), (False, True), (False, False)]
