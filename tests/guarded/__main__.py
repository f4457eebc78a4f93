"""Makes random calls; the last line that it prints is that of a call that ended the process."""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from simclr_ext.backends import loader, ops
from simclr_ext.distributed import operators  # noqa: F401, defines the operators over ranks
from tests.guarded.inputs import Arguments, Inputs
from tests.guarded.pages import guarded, is_guardable, release
from tests.guarded.spoiled import spoil
from tests.guarded.truth import check_losses

_REFUSALS = (NotImplementedError, RuntimeError, TypeError, ValueError)
_SPOILED = 0.4  # of the calls


def main(seed: int, rounds: int) -> None:
    """Make calls with every instruction set of the processor, in a process each.

    Args:
        seed: Seed of the first process; each has its own calls.
        rounds: Forward calls in each process, followed by a backward call if they succeed.
    """
    faulthandler.enable()
    for number, isa in enumerate(loader.load().available_isas()):
        child = os.fork()  # no thread has been started yet
        if child == 0:
            os.environ["SIMCLR_EXT_ISA"] = isa  # read at the first call
            _run(seed + number, rounds)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            sys.exit(f"{isa}: ended by {status}")


def _run(seed: int, rounds: int) -> None:
    try:
        torch.set_num_threads(2)
        ops.register()
        with tempfile.TemporaryDirectory() as folder:
            dist.init_process_group(
                "gloo", init_method=f"file://{folder}/store", rank=0, world_size=1
            )
            calls = Calls(seed, dist.group.WORLD.group_name)
            for _ in range(rounds):
                calls.one()
            dist.destroy_process_group()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    print(f"answered {calls.answered}, refused {calls.refused}", flush=True)


class Calls:
    """Random calls of the operators, some of them invalid.

    Args:
        seed: Seed of the calls.
        group: Name of a group of one process.
    """

    def __init__(self, seed: int, group: str) -> None:
        self._random = random.Random(seed)
        torch.manual_seed(seed)
        self._inputs = inputs = Inputs(self._random, group)
        self._families = [
            (inputs.nt_xent, "nt_xent_forward", inputs.nt_xent_grads),
            (inputs.nt_xent, "nt_xent_tiled_forward", inputs.nt_xent_grads),
            (inputs.nt_xent_loss, "nt_xent", None),
            (inputs.contrastive, "contrastive_forward", inputs.contrastive_grads),
            (inputs.contrastive, "contrastive_tiled_forward", inputs.contrastive_grads),
            (inputs.stats, "contrastive_stats", None),
            (inputs.stats, "contrastive_tiled_stats", None),
            (inputs.sigmoid, "sigmoid_forward", inputs.sigmoid_grads),
            (inputs.sigmoid, "sigmoid_tiled_forward", inputs.sigmoid_grads),
            (
                inputs.ranks_contrastive,
                "ranks_contrastive_forward",
                inputs.ranks_contrastive_grads,
            ),
            (inputs.ranks_sigmoid, "ranks_sigmoid_forward", inputs.ranks_sigmoid_grads),
            (inputs.ranks_agree, "ranks_agree", None),
            (inputs.ranks_reduce, "ranks_reduce", None),
            (inputs.ranks_numbers, "ranks_numbers", None),
        ]
        self.refused = self.answered = 0

    def one(self) -> None:
        """Make a call with valid inputs, which must succeed, or with an invalid one."""
        draw, operator, draw_grads = self._random.choice(self._families)
        inputs = draw()
        saved = self._call(operator, inputs)
        if saved is None or draw_grads is None:
            return
        if inputs.get("owned"):  # the backward pass takes the losses of all rows, gathered
            saved = _operator(operator)(**{**inputs, "owned": []})
        self._call(operator.replace("forward", "backward"), draw_grads(inputs, saved))

    def _call(self, name: str, inputs: Arguments) -> tuple[Tensor, ...] | None:
        """Call an operator on guarded tensors; compare with the same call on ordinary ones."""
        spoiled = self._random.random() < _SPOILED
        if spoiled:
            inputs = spoil(inputs, self._random)
        held = {
            key: guarded(value, at_end=self._random.random() < 0.7)
            if is_guardable(value)
            else value
            for key, value in inputs.items()
        }
        print(name, {key: _described(value) for key, value in inputs.items()}, flush=True)
        try:
            found = _results(name, held)
        except _REFUSALS as error:
            if not spoiled:
                raise
            print(f"refused: {type(error).__name__}: {str(error).splitlines()[0]}")
            self.refused += 1
            return None
        finally:
            del held
            release()
        self.answered += 1
        kinds = [value.dtype for value in found if value.is_floating_point()]
        eps = max(torch.finfo(dtype).eps for dtype in kinds)  # double sums of floats have theirs
        for value, expected in zip(found, _results(name, inputs), strict=True):
            if value.device.type != "meta":
                assert close(value, expected, eps), "the result depends on where the inputs lie"
        check_losses(name, inputs, found)
        return None if spoiled else found


def _operator(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(torch.ops.simclr_ext, name)
    return function


def _results(name: str, inputs: Arguments) -> tuple[Tensor, ...]:
    """Return what an operator returns; of ``nt_xent`` also its gradients."""
    if name != "nt_xent":
        found = _operator(name)(**inputs)
        return found if isinstance(found, tuple) else (found,)
    learned = {
        key: inputs[key].detach().requires_grad_()
        for key in ("z0", "z1", "temperature")
        if isinstance(inputs[key], Tensor) and inputs[key].is_floating_point()
    }
    loss = _operator(name)(**{**inputs, **learned})
    return loss.detach(), *torch.autograd.grad(loss.sum(), list(learned.values()))


def _described(value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    if value.is_nested or value.layout is not torch.strided:
        return value.dtype, value.layout, "nested" if value.is_nested else tuple(value.shape)
    return value.dtype, tuple(value.shape), value.stride()


def close(value: Tensor, expected: Tensor, eps: float) -> bool:
    """Return whether two results differ by rounding alone.

    MKL rounds by the alignment of its operands: on AMD's Zen 3, that of doubles was seen to matter.
    """
    if not value.is_floating_point():
        return torch.equal(value, expected)
    rounding = 1e3 * eps
    largest = float(expected.nan_to_num(0, 0, 0).abs().max()) if expected.numel() else 0.0
    return torch.allclose(
        value, expected, rtol=rounding, atol=rounding * max(1.0, largest), equal_nan=True
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
