"""Cases of each loss: its batches, all of its options, and what bounds its values."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor

import simclr_ext as ours
from simclr_ext.testing import ROUNDINGS
from tests.properties.cases import (
    DTYPES,
    Case,
    Rows,
    backends,
    batches,
    log_uniform,
    sizes,
    temperatures,
    widths,
)

dtypes = st.sampled_from(DTYPES)


@st.composite
def ids(draw: st.DrawFn, images: int) -> Tensor:
    """Draw an integer for each image, some of them equal."""
    kinds = draw(st.integers(1, images))
    numbers = draw(st.lists(st.integers(0, kinds - 1), min_size=images, max_size=images))
    return torch.tensor(numbers) * draw(st.sampled_from([1, -(2**40)]))


@st.composite
def pairs_of_views(draw: st.DrawFn) -> list[Rows]:
    """Draw two views of some images."""
    n = draw(sizes)
    return draw(batches(n, n, dim=draw(widths), dtype=draw(dtypes)))


@st.composite
def nt_xent(draw: st.DrawFn) -> Case:
    """Draw two views, with or without ids, and one temperature, or one for each image."""
    n, temperature = draw(sizes), draw(temperatures)
    rows = draw(batches(n, n, dim=draw(widths), dtype=draw(dtypes)))
    given = draw(st.sets(st.sampled_from(["positive_ids", "ignore_ids"])))
    each = "positive_ids" not in given and draw(st.booleans())

    def loss(z0: Tensor, z1: Tensor, t: float | Tensor, **options: object) -> Tensor:
        t = t * options.pop("factors", 1.0)
        return ours.nt_xent_loss(z0, z1, t, reduction="none", **options).view(2, -1)

    bounds = (0.0, math.log(max(1, 2 * n - 1)) + 2 / temperature)
    numbers = {name: draw(ids(n)) for name in sorted(given)}
    if each:
        numbers["factors"] = torch.linspace(1, 3, n, dtype=torch.float64)
    return Case(loss, rows, temperature, 1 / temperature, bounds, draw(backends), numbers)


@st.composite
def info_nce(draw: st.DrawFn) -> Case:
    """Draw queries, keys and perhaps a queue."""
    n, temperature = draw(sizes), draw(temperatures)
    queue = draw(st.one_of(st.just(0), sizes))
    in_batch = queue == 0 or draw(st.booleans())
    symmetric = in_batch and draw(st.booleans())
    counts = (n, n, queue) if queue else (n, n)
    rows = draw(batches(*counts, dim=draw(widths), dtype=draw(dtypes)))
    numbers = {"ignore_ids": draw(ids(n))} if in_batch and draw(st.booleans()) else {}
    arguments = {"in_batch": in_batch, "symmetric": symmetric, "reduction": "none"}

    def loss(queries: Tensor, keys: Tensor, *rest: object, **options: object) -> Tensor:
        *negatives, t = rest
        of_queue = {"negatives": negatives[0]} if negatives else {}
        return ours.info_nce_loss(queries, keys, t, **of_queue, **arguments, **options).view(-1, n)

    bounds = (0.0, math.log(n + queue) + 2 / temperature)
    return Case(loss, rows, temperature, 1 / temperature, bounds, draw(backends), numbers)


@st.composite
def sup_con(draw: st.DrawFn) -> Case:
    """Draw one to three views of each image, with or, for two views or more, without labels."""
    n, views, temperature = draw(sizes), draw(st.integers(1, 3)), draw(temperatures)
    rows = draw(batches(*[n] * views, dim=draw(widths), dtype=draw(dtypes)))
    form = draw(st.sampled_from(["out", "in"]))
    numbers = {"labels": draw(ids(n))} if views == 1 or draw(st.booleans()) else {}

    def loss(*args: object, **options: object) -> Tensor:
        *features, t = args
        stacked = torch.stack(features, 1)
        losses = ours.sup_con_loss(stacked, temperature=t, form=form, reduction="none", **options)
        return losses.T

    bounds = (0.0, math.log(max(1, n * views - 1)) + 2 / temperature)
    return Case(loss, rows, temperature, 1 / temperature, bounds, draw(backends), numbers)


@st.composite
def dcl(draw: st.DrawFn) -> Case:
    """Draw two views, with or without weights of the positives."""
    n, temperature = draw(sizes.filter(lambda n: n >= 2)), draw(temperatures)
    rows = draw(batches(n, n, dim=draw(widths), dtype=draw(dtypes)))
    sigma = draw(st.one_of(st.none(), log_uniform(0.1, 10)))

    def loss(z0: Tensor, z1: Tensor, t: float | Tensor, **options: object) -> Tensor:
        return ours.dcl_loss(z0, z1, t, sigma=sigma, reduction="none", **options).view(2, -1)

    # w is from 2 - N to 2, and its derivative by s at most N / sigma.
    largest = 1.0 if sigma is None else max(2.0, n - 2.0)
    sharpness = (1 + (0 if sigma is None else n * (1 + 1 / sigma))) / temperature
    middle, around = math.log(2 * n - 2), (1 + largest) / temperature
    bounds = (middle - around, middle + around)
    case = Case(loss, rows, temperature, sharpness, bounds, draw(backends))
    return case if sigma is None else replace(case, roundings=_of_lse(n, temperature))


@st.composite
def hcl(draw: st.DrawFn) -> Case:
    """Draw two views, and how hard and how debiased the negatives are."""
    n, temperature = draw(sizes.filter(lambda n: n >= 2)), draw(temperatures)
    rows = draw(batches(n, n, dim=draw(widths), dtype=draw(dtypes)))
    beta = draw(st.one_of(st.just(0.0), st.floats(0.1, 3)))
    tau_plus = draw(st.one_of(st.just(0.0), st.floats(0.01, 0.9)))

    def loss(z0: Tensor, z1: Tensor, t: float | Tensor, **options: object) -> Tensor:
        options = {**options, "beta": beta, "tau_plus": tau_plus, "reduction": "none"}
        return ours.hcl_loss(z0, z1, t, **options).view(2, -1)

    sharpness = (1 + 2 * beta) / temperature
    bounds = (0.0, math.log(1 + (2 * n - 2) / (1 - tau_plus)) + 2 / temperature)
    case = Case(loss, rows, temperature, sharpness, bounds, draw(backends))
    return replace(case, roundings=_of_lse(n, temperature) / (1 - tau_plus))


def _of_lse(images: int, temperature: float) -> float:
    """Return the roundings of s / T as a difference of two numbers as large as lse."""
    return ROUNDINGS * (1 + temperature * math.log(2 * images))


@st.composite
def siglip(draw: st.DrawFn) -> Case:
    """Draw queries and at least as many keys; the scale is 1 / T."""
    n, temperature = draw(sizes), draw(temperatures)
    more = draw(st.one_of(st.just(0), sizes))
    counts = (n, n, more) if more else (n, n)
    rows = draw(batches(*counts, dim=draw(widths), dtype=draw(dtypes)))
    bias = draw(st.floats(-20, 20))

    def loss(queries: Tensor, *rest: object, **options: object) -> Tensor:
        *keys, t = rest
        options = {**options, "reduction": "none"}
        return ours.siglip_loss(queries, torch.cat(keys), 1 / t, bias, **options)[None]

    size = n + more
    most = size * (math.log1p(math.exp(-abs(bias))) + abs(bias) + 1 / temperature)
    return Case(loss, rows, temperature, size / temperature, (0.0, most), draw(backends))


LOSSES = {
    "nt_xent": nt_xent(),
    "info_nce": info_nce(),
    "sup_con": sup_con(),
    "dcl": dcl(),
    "hcl": hcl(),
    "siglip": siglip(),
}
