"""What differs between versions of torch, at the version that is installed."""

from __future__ import annotations

from simclr_ext._torch_compat import HAS_PRODUCTS_OF_HALVES, OPERATOR_TAGS
from simclr_ext.backends import ops
from tests.torch_faults import VERSION


def test_cuda_graphs_are_told_not_to_hold_the_operators() -> None:
    expected = ["cudagraph_unsafe"] if VERSION >= (2, 8) else []
    assert [tag.name for tag in OPERATOR_TAGS] == expected
    operators = ops.torch.ops.simclr_ext
    for operator in (operators.nt_xent_tiled_forward, operators.nt_xent_tiled_backward):
        assert set(OPERATOR_TAGS) <= set(operator.default.tags)


def test_halves_are_multiplied_into_floats_from_some_version_on() -> None:
    assert (VERSION >= (2, 8)) == HAS_PRODUCTS_OF_HALVES
