"""Contrastive metrics against the materialized matrix, and measures of spread at their extremes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext import contrastive_metrics
from simclr_ext.diagnostics import effective_rank, embedding_std


def by_hand(
    z0: Tensor, z1: Tensor, temperature: float, normalize: bool = True, k: int = 5
) -> list[float]:
    z = torch.cat([z0, z1]).double()
    z = F.normalize(z, dim=1) if normalize else z
    similarity, count = z @ z.T, len(z)
    hits, top_k, entropies, positives, negatives = 0, 0, 0.0, 0.0, 0.0
    for i in range(count):
        p = (i + count // 2) % count
        row = {j: float(similarity[i, j]) for j in range(count) if j != i}
        as_close = sum(s >= row[p] for j, s in row.items() if j != p)
        hits += as_close == 0
        top_k += as_close < k
        top = max(row.values())  # dot products overflow without it
        total = sum(math.exp((s - top) / temperature) for s in row.values())
        shares = [math.exp((s - top) / temperature) / total for s in row.values()]
        entropies -= sum(share * math.log(share) for share in shares if share > 0)
        positives += row[p]
        negatives += sum(s for j, s in row.items() if j != p) / (count - 2)
    return [value / count for value in (hits, entropies, positives, negatives, top_k)]


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 33), (9, 4)])
@pytest.mark.parametrize("chunk", [1, 4, 1024])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("normalize", [True, False], ids=["cosine", "dot product"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_metrics_are_those_of_the_matrix(
    n: int, d: int, chunk: int, temperature: float, normalize: bool, k: int
) -> None:
    z0 = torch.randn(n, d, dtype=torch.float64)
    z1 = z0 + 0.7 * torch.randn(n, d, dtype=torch.float64)
    metrics = contrastive_metrics(z0, z1, temperature, chunk, normalize, k)
    assert [float(value) for value in metrics] == pytest.approx(
        by_hand(z0, z1, temperature, normalize, k), rel=1e-9
    )


def test_top_1_is_the_accuracy_and_top_k_is_that_of_the_logits() -> None:
    z0 = torch.randn(40, 8)
    z1 = z0 + torch.randn(40, 8)
    assert contrastive_metrics(z0, z1, k=1).top_k_accuracy == contrastive_metrics(z0, z1).accuracy
    z = F.normalize(torch.cat([z0, z1]), dim=1)
    logits = (z @ z.T).fill_diagonal_(-torch.inf)
    hits = logits.topk(5).indices == torch.arange(80).roll(40)[:, None]
    metrics = contrastive_metrics(z0, z1)
    assert metrics.top_k_accuracy.item() == pytest.approx(hits.any(dim=1).float().mean().item())
    assert metrics.accuracy < metrics.top_k_accuracy < 1


@pytest.mark.parametrize("value", [1.0, math.nan], ids=["collapsed", "NaN"])
def test_rows_that_cannot_be_told_apart_are_not_accurate(value: float) -> None:
    metrics = contrastive_metrics(*torch.full((2, 8, 3), value))
    assert (float(metrics.accuracy), float(metrics.top_k_accuracy)) == (0, 0)


def test_autocast_two_dtypes_and_a_learned_temperature_change_nothing() -> None:
    z0, z1 = torch.randn(2, 30, 8)
    z1 = z1.bfloat16()
    expected = contrastive_metrics(z0, z1.float(), 0.2)
    learned = torch.tensor([0.2], requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metrics = contrastive_metrics(z0, z1, learned)
    torch.testing.assert_close(tuple(metrics), tuple(expected))
    assert not any(value.requires_grad for value in metrics)


def test_half_types_and_gradients() -> None:
    z0, z1 = torch.randn(2, 6, 5).bfloat16().requires_grad_()
    metrics = contrastive_metrics(z0, z1, 0.2)
    expected = by_hand(z0.detach(), z1.detach(), 0.2)
    assert [float(value) for value in metrics] == pytest.approx(expected, rel=1e-5)
    assert not any(value.requires_grad for value in metrics)


def test_one_pair_has_no_negatives() -> None:
    metrics = contrastive_metrics(torch.ones(1, 3), torch.ones(1, 3))
    assert (float(metrics.accuracy), float(metrics.entropy)) == (1, 0)
    assert math.isnan(float(metrics.negative_similarity))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((2, 3), (2, 4)), {}, r"z1 must have the shape of z0, \(2, 3\), got \(2, 4\)"),
        (((3,), (3,)), {}, r"must be \[N, D\]"),
        (((2, 3), (2, 3)), {"temperature": 0.0}, "temperature must be positive and finite, got 0"),
        (((2, 3), (2, 3)), {"chunk": 0}, "chunk must be positive and finite, got 0"),
        (((2, 3), (2, 3)), {"k": 0}, "k must be positive and finite, got 0"),
    ],
)
def test_wrong_input(
    shapes: tuple[tuple[int, ...], ...], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        contrastive_metrics(*map(torch.zeros, shapes), **options)  # type: ignore[arg-type]


def test_spread_of_uniform_and_of_collapsed_embeddings() -> None:
    uniform = torch.randn(4000, 16)
    assert embedding_std(uniform) == pytest.approx(1, abs=0.02)
    assert effective_rank(uniform) == pytest.approx(16, abs=0.1)
    point = torch.ones(50, 16)
    assert embedding_std(point) == pytest.approx(0, abs=1e-6)
    assert effective_rank(point) == 1
    line = torch.randn(500, 1).sign() * torch.ones(16)  # two opposite points
    assert embedding_std(line) == pytest.approx(1, abs=0.1)
    assert effective_rank(line) == pytest.approx(1, abs=1e-6)
