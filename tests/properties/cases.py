"""What hypothesis draws: rows of any shape, stride, dtype and length, and all arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from simclr_ext.backends.reference import compute_dtype
from tests.accuracy import weights_of

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
EPS = 1e-37  # below all norms that are drawn: the least that is allowed is 1.2e-38
# Powers of two that rows may be multiplied by, 1e-30 to 1e30: that is exact.
_EXPONENTS = {torch.float16: 3}
_MAX_EXPONENT = 100

backends = st.sampled_from(["fused", "tiled"])
seeds = st.integers(0, 2**32 - 1)
# Small ones, and those around vectors and blocks; the fused schedule has one tile up to 128 rows.
sizes = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 33, 64, 65, 70]))
widths = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 32, 33]))


@st.composite
def log_uniform(draw: st.DrawFn, least: float, most: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return 10 ** draw(st.floats(math.log10(least), math.log10(most)))


temperatures = log_uniform(0.005, 1000)


def _equal(z: Tensor) -> Tensor:
    return z[:1].repeat(len(z), 1)


# How the rows of a batch are related; all of the same length or so, and none is zero.
_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "independent": lambda z: z,
    "of a half-trained encoder": lambda z: z[:1] + 0.5 * z,
    "nearly equal": lambda z: _equal(z) + 1e-3 * z,
    "equal": _equal,
    "equal and opposite": lambda z: _equal(z) * z[:, :1].sign(),
    "axes": lambda z: torch.eye(z.shape[1])[z.abs().argmax(1)],
    "small integers": lambda z: (2 * z).round() + (z.round().abs().sum(1, keepdim=True) == 0),
}
_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda z: z.contiguous(),
    "transposed": lambda z: z.t().contiguous().t(),
    "padded": lambda z: torch.cat([z, z[:, :1]], 1)[:, :-1],
    "every other": lambda z: torch.stack([z, z], 2)[:, :, 0],
    "misaligned": lambda z: torch.cat([z.new_zeros(1), z.flatten()])[1:].view_as(z),
}


@dataclass(frozen=True)
class Rows:
    """Rows of about unit length, and what they are multiplied by.

    Args:
        unit: [R, D].
        scale: [R, 1] float64, powers of two.
        layout: The name of the strides.
    """

    unit: Tensor
    scale: Tensor
    layout: str

    @property
    def plain(self) -> Tensor:
        """The rows of about unit length, with strides."""
        return _LAYOUTS[self.layout](self.unit)

    @property
    def scaled(self) -> Tensor:
        """The rows times their scale, which is exact, with strides."""
        return _LAYOUTS[self.layout]((self.unit.double() * self.scale).to(self.unit.dtype))


@st.composite
def batches(draw: st.DrawFn, *counts: int, dim: int, dtype: torch.dtype) -> list[Rows]:
    """Draw batches of so many rows each, which are related."""
    generator = torch.Generator().manual_seed(draw(seeds))
    z = torch.randn(sum(counts), dim, generator=generator)
    z = _KINDS[draw(st.sampled_from(sorted(_KINDS)))](z).to(dtype)
    assume(bool((z.double().norm(dim=1) > 1e-3).all()))
    most = _EXPONENTS.get(dtype, _MAX_EXPONENT)
    if draw(st.booleans()):  # each row has its own
        exponents = torch.randint(-most, most + 1, (len(z), 1), generator=generator)
    else:
        exponents = torch.full((len(z), 1), draw(st.integers(-most, most)))
    scale = torch.ldexp(torch.ones(len(z), 1, dtype=torch.float64), exponents)
    assume(bool(((z.double() * scale).to(dtype).double() == z.double() * scale).all()))
    layout = draw(st.sampled_from(sorted(_LAYOUTS)))
    parts = zip(z.split(counts), scale.split(counts), strict=True)
    return [Rows(unit, part, layout) for unit, part in parts]


@dataclass(frozen=True)
class Case:
    """Arguments of a loss.

    Args:
        loss: Returns the losses [views, N] of batches of rows, given these and a temperature.
        rows: The batches; the first has N rows.
        temperature: T.
        sharpness: How much a loss changes with a similarity, at most: 1 / T, or more.
        bounds: Of all losses.
        backend: "fused" or "tiled".
        ids: Arguments with an integer for each of the N images.
        roundings: How many, of the size of a logit, a loss has beyond those of the error budget.
    """

    loss: Callable[..., Tensor]
    rows: list[Rows]
    temperature: float
    sharpness: float
    bounds: tuple[float, float]
    backend: str
    ids: dict[str, Tensor] = field(default_factory=dict)
    roundings: float = 0.0

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows."""
        return self.rows[0].unit.dtype

    @property
    def images(self) -> int:
        """N."""
        return len(self.rows[0].unit)

    @property
    def rounding(self) -> float:
        """The relative rounding of a loss."""
        return torch.finfo(compute_dtype(self.dtype)).eps

    @property
    def weight_rounding(self) -> float:
        """The relative rounding of the weights of a gradient."""
        weights = weights_of(self.dtype, self.backend)
        return self.rounding if weights is None else torch.finfo(weights).eps

    def plain(self) -> list[Tensor]:
        """Return the rows of about unit length."""
        return [rows.plain for rows in self.rows]

    def scaled(self) -> list[Tensor]:
        """Return the rows of any length."""
        return [rows.scaled for rows in self.rows]

    def losses(self, inputs: list[Tensor], **options: object) -> Tensor:
        """Return the losses of all rows, [views, N]."""
        return self.loss(
            *inputs, self.temperature, **{"backend": self.backend, **self.ids, **options}
        )

    def results(
        self, inputs: list[Tensor], dtype: torch.dtype | None = None, **options: object
    ) -> list[Tensor]:
        """Return the losses, and gradients of their mean with weights that all differ.

        The gradients are those of the rows and of the temperature, as it is rounded to the compute
        dtype of the case.
        """
        held = torch.tensor(self.temperature, dtype=compute_dtype(self.dtype))
        leaves = [z.detach().to(dtype or z.dtype).requires_grad_() for z in inputs]
        t = held.to(compute_dtype(leaves[0].dtype)).requires_grad_()
        losses = self.loss(*leaves, t, **{"backend": self.backend, **self.ids, **options})
        weights = torch.linspace(0.5, 1.5, losses.numel(), dtype=losses.dtype) / losses.numel()
        grads = torch.autograd.grad(losses.flatten() @ weights, [*leaves, t])
        return [losses.detach(), *grads]
