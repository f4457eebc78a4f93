"""Bugs of some supported versions of torch, for the tests that trigger them."""

from __future__ import annotations

import functools

import pytest
import torch

VERSION = tuple(map(int, torch.__version__.split(".")[:2]))

# torch 2.6 and 2.8 crash the process, 2.11 refuses to read a number from the host's memory.
needs_fakes_of_cuda = pytest.mark.skipif(
    VERSION < (2, 14), reason="fake CUDA tensors of this torch want a driver"
)

needs_fsdp_on_the_cpu = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="FSDP2 of this torch needs a GPU"
)


@functools.cache
def notices_a_float_of_a_module() -> bool:
    """Return whether a compiled module sees that its attribute changed.

    With torch 2.11 on Python 3.13.0 it does not, whatever the module.
    """

    class Divide(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / self.divisor

    module = Divide()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    quotients = []
    for module.divisor in (1.0, 2.0):
        quotients.append(compiled(torch.ones(())).item())
    return quotients == [1.0, 0.5]
