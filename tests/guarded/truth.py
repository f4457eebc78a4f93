"""What forward operators return, by the reference in float64: no number is silently another one."""

from __future__ import annotations

import torch
from torch import Tensor

from simclr_ext.backends import reference
from tests.guarded.inputs import Arguments

_DIGITS = 1e-3  # of an error relative to the largest logit; the tests of accuracy ask for more


def check_losses(operator: str, inputs: Arguments, found: tuple[Tensor, ...]) -> None:
    """Fail if losses, or log-sum-exps, are far from those of the reference.

    Args:
        operator: Its name.
        inputs: Its arguments.
        found: Its results.
    """
    if not operator.endswith(("forward", "stats")) or found[0].device.type == "meta":
        return
    options = {"normalize": inputs["normalize"], "eps": inputs["eps"]}
    if "sigmoid" in operator:
        names = ("x", "y", "scale", "bias")
        rows = [inputs[name].double() for name in names]
        expected = [reference.sigmoid(*rows, **options, shifts=inputs["shifts"])]
        scale = float(inputs["scale"])
    else:
        expected = _contrastive(inputs, options)
        scale = 1 / float(inputs["temperature"])
    if inputs.get("owned"):
        expected = [values[slice(*inputs["owned"])] for values in expected]
    norm = 1.0 if inputs["normalize"] else _largest_norm(inputs)
    for value, exact in zip(found[: len(expected)], expected, strict=True):
        limit = _DIGITS * (1 + scale * norm**2)
        assert torch.allclose(value.double(), exact, rtol=_DIGITS, atol=limit, equal_nan=True), (
            f"{operator}: {value} is not {exact}"
        )


def _contrastive(inputs: Arguments, options: Arguments) -> list[Tensor]:
    if "z0" in inputs:
        n = len(inputs["z0"])
        x, y = torch.cat([inputs["z0"], inputs["z1"]]).double(), None
        pairing: Arguments = {"shifts": (n, -n)}
    else:
        x, y = inputs["x"].double(), inputs["y"]
        names = ("shifts", "label", "ignored", "denominator")
        pairing = {name: inputs[name] for name in names if name in inputs}
    columns = None if y is None else y.double()
    return list(reference.contrastive(x, columns, inputs["temperature"], **options, **pairing))


def _largest_norm(inputs: Arguments) -> float:
    rows = [inputs[name] for name in ("x", "y", "z0", "z1") if inputs.get(name) is not None]
    return max(float(z.double().norm(dim=1).nan_to_num(0, 0).max()) for z in rows)
