"""Random valid inputs of the operators, as the names and values of their arguments."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]

_SIZES = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130, 513)  # around vectors and blocks
_PAIRING = ("shifts", "label", "ignored", "denominator", "owned")


class Inputs:
    """Draws inputs.

    Args:
        source: Of random numbers; torch's own are seeded apart.
        group: Name of a group of one process.
    """

    def __init__(self, source: random.Random, group: str) -> None:
        self._random = source
        self._group = group

    def nt_xent(self) -> Arguments:
        """Return arguments of ``nt_xent_forward``."""
        n, dim, dtype = self._size(), self._dim(), self._dtype()
        return {"z0": self._rows(n, dim, dtype), "z1": self._rows(n, dim, dtype), **self._options()}

    def nt_xent_loss(self) -> Arguments:
        """Return arguments of ``nt_xent``, of which the rows and the temperature get gradients."""
        inputs = self.nt_xent()
        value = inputs.pop("temperature")
        learned = {"temperature": value.float(), "value": value}
        scale = self._random.choice([{"temperature": value.item()}, learned])
        return {**inputs, **scale, "reduction": self._random.randrange(3)}

    def nt_xent_grads(self, inputs: Arguments, saved: Sequence[Tensor]) -> Arguments:
        """Return arguments of ``nt_xent_backward``, for those of the forward pass and its results.

        Like the other methods of this kind.
        """
        return {**self._grads(inputs, saved), "dim": inputs["z0"].shape[1]}

    def contrastive(self) -> Arguments:
        """Return arguments of ``contrastive_forward``."""
        choice, dtype = self._random.choice, self._dtype()
        rows, dim = self._size(), self._dim()
        inputs: Arguments = {"x": self._rows(rows, dim, dtype), "y": None, **self._options()}
        inputs |= {"shifts": [], "label": None, "ignored": None, "owned": []}
        inputs["denominator"] = choice(["all", "all", "negatives", "positives"])
        if choice([True, False]):
            inputs["y"] = self._rows(self._size(), dim, dtype)
        elif choice([True, False]):
            begin = self._random.randrange(rows)
            inputs["owned"] = [begin, self._random.randint(begin + 1, rows)]
        size = rows if inputs["y"] is None else rows + len(inputs["y"])
        if choice([True, False]):
            inputs["ignored"] = self._numbers(size)
        if choice([True, False]):
            inputs["label"] = self._numbers(size)
        elif inputs["y"] is not None:
            inputs["shifts"] = self._shifts()
        elif rows > 1:
            shift = self._random.randrange(1, rows)
            inputs["shifts"] = choice([[], [shift, -shift]])
        return inputs

    def contrastive_grads(self, inputs: Arguments, saved: Sequence[Tensor]) -> Arguments:
        """Return arguments of ``contrastive_backward``."""
        grads = self._grads(inputs, saved) | {name: inputs[name] for name in _PAIRING}
        grads["grad_lse"] = self._random.choice([None, torch.randn_like(saved[1])])
        return {**grads, "dim": inputs["x"].shape[1], "rows": len(inputs["x"])}

    def stats(self) -> Arguments:
        """Return arguments of ``contrastive_stats``."""
        inputs = self.contrastive()
        return {name: inputs[name] for name in inputs if name not in ("denominator", "owned")}

    def sigmoid(self) -> Arguments:
        """Return arguments of ``sigmoid_forward``."""
        dim, dtype = self._dim(), self._dtype()
        inputs = {"x": self._rows(self._size(), dim, dtype), **self._options()}
        inputs["scale"] = inputs.pop("temperature")
        inputs["bias"] = torch.tensor(self._random.choice([-10.0, 0.0, 2.5]), dtype=torch.float64)
        return {**inputs, "y": self._rows(self._size(), dim, dtype), "shifts": self._shifts()}

    def sigmoid_grads(self, inputs: Arguments, saved: Sequence[Tensor]) -> Arguments:
        """Return arguments of ``sigmoid_backward``."""
        loss, _, z, inv_norm = saved
        grads = {"grad_loss": torch.randn_like(loss), "z": z, "inv_norm": inv_norm}
        grads |= {name: inputs[name] for name in ("scale", "bias", "eps", "shifts")}
        return {**grads, "dim": inputs["x"].shape[1], "needs_grad": self._needs()}

    def ranks_contrastive(self) -> Arguments:
        """Return arguments of ``ranks_contrastive_forward``."""
        inputs = self.contrastive()
        del inputs["owned"]
        if inputs["y"] is not None and inputs["label"] is not None:
            inputs |= {"label": None, "shifts": self._shifts()}
        if inputs["label"] is None and inputs["denominator"] == "positives":
            inputs["denominator"] = "all"
        columns = inputs["x"] if inputs["y"] is None else inputs["y"]
        return {**inputs, **self._ranks(len(inputs["x"]), len(columns))}

    def ranks_contrastive_grads(self, inputs: Arguments, saved: Sequence[Tensor]) -> Arguments:
        """Return arguments of ``ranks_contrastive_backward``."""
        grads = self.contrastive_grads({**inputs, "owned": []}, saved[:4]) | _visitors(saved)
        needs = grads.pop("needs_grad")
        del grads["owned"]
        return {**grads, **self._of_ranks(inputs), "needs_temperature": needs[2]}

    def ranks_sigmoid(self) -> Arguments:
        """Return arguments of ``ranks_sigmoid_forward``."""
        inputs = self.sigmoid()
        return {**inputs, **self._ranks(len(inputs["x"]), len(inputs["y"]))}

    def ranks_sigmoid_grads(self, inputs: Arguments, saved: Sequence[Tensor]) -> Arguments:
        """Return arguments of ``ranks_sigmoid_backward``."""
        grads = self.sigmoid_grads(inputs, saved[:4]) | _visitors(saved)
        needs = grads.pop("needs_grad")
        return {**grads, **self._of_ranks(inputs), "needs_scale": needs[2]}

    def ranks_agree(self) -> Arguments:
        """Return arguments of ``ranks_agree``."""
        names = self._random.choice([["temperature"], ["scale", "bias"]])
        facts = [1.0] * self._random.randrange(3)
        return {
            "values": torch.rand(len(names), dtype=torch.float64),
            "rows": [self._size(), self._size()],
            "names": ",".join([*names, *(f"fact {index}" for index in range(len(facts)))]),
            "facts": facts,
            "least": 1,
            "group": self._group,
        }

    def ranks_reduce(self) -> Arguments:
        """Return arguments of ``ranks_reduce``."""
        values = self._rows(self._size(), self._dim(), self._dtype())
        operation = self._random.choice(["sum", "max", "min"])
        return {"values": values, "operation": operation, "after": None, "group": self._group}

    def ranks_numbers(self) -> Arguments:
        """Return arguments of ``ranks_numbers``."""
        ids = torch.randint(-(2**62), 2**62, (self._size(),))
        found = self._ranks(len(ids), len(ids))
        return {"ids": ids, **{name: found[name] for name in ("sizes", "after", "group")}}

    def _ranks(self, rows: int, columns: int) -> Arguments:
        return {
            "sizes": torch.tensor([[rows, columns]]),
            "backend": self._random.choice(["fused", "tiled"]),
            "exchange": self._random.choice(["gather", "gather once", "ring"]),
            "after": None,
            "group": self._group,
        }

    def _of_ranks(self, inputs: Arguments) -> Arguments:
        return {name: inputs[name] for name in ("sizes", "backend", "exchange", "after", "group")}

    def _grads(self, inputs: Arguments, saved: Sequence[Tensor]) -> Arguments:
        names = ("loss", "lse", "z", "inv_norm")
        grads: Arguments = dict(zip(names, saved, strict=True))
        grads |= {name: inputs[name] for name in ("temperature", "eps")}
        return {**grads, "grad_loss": torch.randn_like(saved[0]), "needs_grad": self._needs()}

    def _needs(self) -> list[bool]:
        return [self._random.choice([True, False]) for _ in range(3)]

    def _size(self) -> int:
        return self._random.choice(_SIZES)

    def _dim(self) -> int:
        return self._random.choice(_SIZES[:-1])

    def _dtype(self) -> torch.dtype:
        return self._random.choice([torch.float32, torch.float64, torch.bfloat16, torch.float16])

    def _shifts(self) -> list[int]:
        return self._random.choice([[], [0], [-2, 5], [-1000, 1000]])

    def _numbers(self, size: int) -> Tensor:
        return torch.randint(-3, 3, (size,), dtype=torch.int32)

    def _options(self) -> Arguments:
        value = self._random.choice([0.002, 0.1, 0.5, 3.0])
        return {
            "temperature": torch.tensor(value, dtype=torch.float64),
            "normalize": self._random.random() < 0.7,
            "eps": self._random.choice([1e-12, 1e-3, 2.0]),
        }

    def _rows(self, rows: int, dim: int, dtype: torch.dtype) -> Tensor:
        """Return random rows with random strides."""
        values = torch.randn(rows, dim, dtype=torch.float64).to(dtype)
        layout = self._random.choice(["plain", "transposed", "padded", "spread", "one row"])
        if layout == "transposed":
            return values.T.contiguous().T
        if layout == "one row":
            return values[:1].expand(rows, dim)
        if layout == "plain":
            return values
        step = 2 if layout == "spread" else 1
        wide = torch.zeros(rows, step * dim + self._random.randrange(4), dtype=dtype)
        view = wide[:, : step * dim : step]
        view.copy_(values)
        return view


def _visitors(saved: Sequence[Tensor]) -> Arguments:
    """Return what a rank keeps of the rows of the others."""
    return {"visitors": saved[4], "visitors_inv_norm": saved[5]}
