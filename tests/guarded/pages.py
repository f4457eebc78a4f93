"""Random calls of the operators on tensors between inaccessible guard pages.

Every tensor is read-only, and ends right before a guard page or begins right after one: a read
outside of it, or a write to it, crashes the process. tests/test_guarded.py runs this as a program:
``python -m tests.guarded SEED ROUNDS``.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import random
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from simclr_ext.backends import loader, ops

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_NO_ACCESS = 0
_SIZES = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130, 513)  # around vectors and blocks
_REFUSALS = (NotImplementedError, RuntimeError, TypeError, ValueError)
_mappings: list[mmap.mmap] = []  # of the tensors of one call


def guarded(values: Tensor, *, at_end: bool) -> Tensor:
    """Return a read-only copy of a tensor, with its strides, next to a guard page."""
    spans = zip(values.shape, values.stride(), strict=True)
    elements = 1 + sum((size - 1) * stride for size, stride in spans) if values.numel() else 0
    used = elements * values.element_size()
    inner = max(1, -(-used // mmap.PAGESIZE)) * mmap.PAGESIZE
    mapping = mmap.mmap(-1, inner + 2 * mmap.PAGESIZE)
    _mappings.append(mapping)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    first = begin + mmap.PAGESIZE
    start = first + (inner - used if at_end else 0)
    if elements:
        flat = torch.frombuffer(
            (ctypes.c_char * used).from_address(start), dtype=values.dtype, count=elements
        )
        copy = flat.as_strided(values.shape, values.stride())
        copy.copy_(values)
    else:
        copy = values.new_empty(values.shape)
    for page in (begin, first + inner):
        _protect(page, mmap.PAGESIZE, _NO_ACCESS)
    _protect(first, inner, mmap.PROT_READ)
    return copy


def _protect(address: int, size: int, access: int) -> None:
    if _LIBC.mprotect(address, size, access) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def close(value: Tensor, expected: Tensor) -> bool:
    """Return whether two results differ by rounding alone.

    MKL rounds by the alignment of its operands: on AMD's Zen 3, that of doubles was seen to matter.
    """
    if not value.is_floating_point():
        return torch.equal(value, expected)
    rounding = 1e3 * torch.finfo(value.dtype).eps
    atol = rounding * float(expected.nan_to_num(0, 0, 0).abs().max()) if expected.numel() else 0.0
    return torch.allclose(value, expected, rtol=rounding, atol=atol, equal_nan=True)


class Calls:
    """Random calls of the operators.

    Args:
        seed: Seed of the calls.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        torch.manual_seed(seed)
        self.refused = self.answered = 0

    def one(self) -> None:
        """Make a call with valid inputs, which must succeed, or with an invalid one."""
        choice = self._random.choice
        family = choice(["nt_xent", "contrastive"])
        inputs = self._nt_xent() if family == "nt_xent" else self._contrastive()
        saved = self._call(f"{family}_forward", inputs)
        if saved is None:
            return
        if inputs.get("owned"):  # the backward pass takes the losses of all rows, gathered
            saved = torch.ops.simclr_ext.contrastive_forward(**{**inputs, "owned": []})
        names = ("loss", "lse", "z", "inv_norm")
        backward = dict(zip(names, saved, strict=True))
        backward |= {name: inputs[name] for name in ("temperature", "eps")}
        backward |= {"grad_loss": torch.randn_like(saved[0])}
        backward |= {"needs_grad": [choice([True, False]) for _ in range(3)]}
        if family == "nt_xent":
            backward["dim"] = inputs["z0"].shape[1]
        else:
            backward["grad_lse"] = choice([None, torch.randn_like(saved[1])])
            pairing = ("shifts", "label", "ignored", "denominator", "owned")
            backward |= {name: inputs[name] for name in pairing}
            backward |= {"dim": inputs["x"].shape[1], "rows": len(inputs["x"])}
        self._call(f"{family}_backward", backward)

    def _call(self, name: str, inputs: dict[str, Any]) -> tuple[Tensor, ...] | None:
        """Call an operator on guarded tensors; compare with the same call on ordinary ones."""
        spoiled = self._random.random() < 0.3
        if spoiled:
            inputs = self._spoil(inputs)
        held = {
            key: guarded(value, at_end=self._random.random() < 0.7)
            if isinstance(value, Tensor) and value.device.type == "cpu"
            else value
            for key, value in inputs.items()
        }
        described = {
            key: (value.dtype, tuple(value.shape), value.stride())
            if isinstance(value, Tensor)
            else value
            for key, value in inputs.items()
        }
        print(name, described, flush=True)  # the last line of a process that ends here
        operator: Callable[..., tuple[Tensor, ...]] = getattr(torch.ops.simclr_ext, name)
        try:
            found = operator(**held)
        except _REFUSALS:
            if not spoiled:
                raise
            self.refused += 1
            return None
        finally:
            del held
            _mappings.clear()
        self.answered += 1
        for value, expected in zip(found, operator(**inputs), strict=True):
            if value.device.type != "meta":
                assert close(value, expected), "the result depends on where the inputs lie"
        return None if spoiled else found

    def _rows(self, rows: int, dim: int, dtype: torch.dtype) -> Tensor:
        """Return random rows with random strides."""
        values = torch.randn(rows, dim, dtype=torch.float64).to(dtype)
        layout = self._random.choice(["plain", "transposed", "padded", "spread"])
        if layout == "transposed":
            return values.T.contiguous().T
        if layout == "plain":
            return values
        step = 2 if layout == "spread" else 1
        wide = torch.zeros(rows, step * dim + self._random.randrange(4), dtype=dtype)
        view = wide[:, : step * dim : step]
        view.copy_(values)
        return view

    def _options(self) -> dict[str, Any]:
        value = self._random.choice([0.002, 0.1, 0.5, 3.0])
        return {
            "temperature": torch.tensor(value, dtype=torch.float64),
            "normalize": self._random.random() < 0.7,
            "eps": self._random.choice([1e-12, 1e-3, 2.0]),
        }

    def _dtype(self) -> torch.dtype:
        return self._random.choice([torch.float32, torch.float64, torch.bfloat16, torch.float16])

    def _nt_xent(self) -> dict[str, Any]:
        n, dim, dtype = self._random.choice(_SIZES), self._random.choice(_SIZES[:-1]), self._dtype()
        return {"z0": self._rows(n, dim, dtype), "z1": self._rows(n, dim, dtype), **self._options()}

    def _contrastive(self) -> dict[str, Any]:
        choice, dtype = self._random.choice, self._dtype()
        rows, columns, dim = choice(_SIZES), choice(_SIZES), choice(_SIZES[:-1])
        inputs: dict[str, Any] = {"x": self._rows(rows, dim, dtype), "y": None, **self._options()}
        inputs |= {"shifts": [], "label": None, "ignored": None, "owned": []}
        inputs["denominator"] = choice(["all", "all", "negatives", "positives"])
        if choice([True, False]):
            inputs["y"] = self._rows(columns, dim, dtype)
        elif choice([True, False]):
            begin = self._random.randrange(rows)
            inputs["owned"] = [begin, self._random.randint(begin + 1, rows)]
        size = rows if inputs["y"] is None else rows + columns
        if choice([True, False]):
            inputs["ignored"] = torch.randint(-3, 3, (size,), dtype=torch.int32)
        if choice([True, False]):
            inputs["label"] = torch.randint(-3, 3, (size,), dtype=torch.int32)
        elif inputs["y"] is not None:
            inputs["shifts"] = choice([[], [0], [-2, 5], [-1000, 1000]])
        elif rows > 1:
            shift = self._random.randrange(1, rows)
            inputs["shifts"] = choice([[], [shift, -shift]])
        return inputs

    def _spoil(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs with one of them changed, so that it may be invalid."""
        choice = self._random.choice
        name = choice([key for key, value in inputs.items() if value is not None])
        value = inputs[name]
        if isinstance(value, Tensor):
            others = [
                value.to("meta"), value[None], value.flatten(), value.long(),
                value.to(choice([torch.float64, torch.float32, torch.float16, torch.int32])),
                value.to(torch.float8_e4m3fn), value * -1, value + float("nan"),
            ]  # fmt: skip
            if value.dim() > 0:
                others += [
                    value[..., :0],
                    value[:-1],
                    value[: len(value) // 2],
                    torch.cat([value, value]),
                ]
            return {**inputs, name: choice(others)}
        if isinstance(value, list) and len(value) == 3:
            return inputs
        limits = [-(2**62), -1, 0, 1, 5, 2**31, 2**62]
        if isinstance(value, list):
            return {**inputs, name: [choice(limits) for _ in range(self._random.randrange(4))]}
        if isinstance(value, float):
            return {**inputs, name: choice([0.0, -1.0, float("nan"), float("inf"), 1e300])}
        return {**inputs, name: choice(limits) if not isinstance(value, bool) else not value}


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
    calls = Calls(seed)
    try:
        torch.set_num_threads(2)
        ops.register()
        for _ in range(rounds):
            calls.one()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    print(f"answered {calls.answered}, refused {calls.refused}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
