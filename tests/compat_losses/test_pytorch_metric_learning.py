"""pytorch-metric-learning's losses and their adapters, with it installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_ext.compat import pytorch_metric_learning as ours
from simclr_ext.compat._pairs import PositivePairs
from tests.compat_losses.helpers import assert_same_training, batches, dtypes

theirs = pytest.importorskip(
    "pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed"
)
from pytorch_metric_learning import distances, reducers, regularizers  # noqa: E402

LOSSES = ["NTXentLoss", "SupConLoss"]
losses = pytest.mark.parametrize("name", LOSSES)
# The classes of 24 rows: two views, uneven ones with rows that are alone, few and large.
LABELS = {
    "views": torch.arange(12).repeat(2),
    "uneven": torch.tensor([7] * 9 + [2**40] * 4 + [-3, 5, 6] + [1] * 8),
    "large": torch.arange(24) % 2,
}
labelings = pytest.mark.parametrize("labeling", LABELS)


def with_labels(
    loss: Callable[..., Tensor], labels: Tensor, scale: float = 1.0
) -> Callable[..., Tensor]:
    return lambda *views: loss(scale * torch.cat(views), labels)


@dtypes
@losses
@labelings
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("distance", ["default", "cosine", "dot", "normalized dot"])
def test_labels(
    distance: str, temperature: float, labeling: str, name: str, dtype: torch.dtype
) -> None:
    options: dict[str, Any] = {
        "default": {},
        "cosine": {"distance": distances.CosineSimilarity()},
        "dot": {"distance": distances.DotProductSimilarity(normalize_embeddings=False)},
        "normalized dot": {"distance": distances.DotProductSimilarity()},
    }[distance]
    # Dot products of long rows would saturate: losses of 0, or of rounding, which are not counted.
    scale = 0.1 if distance == "dot" else 1.0
    their, our = (
        with_labels(getattr(package, name)(temperature, **options), LABELS[labeling], scale)
        for package in (theirs, ours)
    )
    assert_same_training(their, our, batches(12, 2, dtype))


@dtypes
@labelings
@pytest.mark.parametrize("per_row", [1, 3])
def test_many_pairs_are_processed_in_chunks(
    per_row: int, labeling: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "PAIRS_PER_ROW", per_row)
    their, our = (with_labels(p.NTXentLoss(0.1), LABELS[labeling]) for p in (theirs, ours))
    assert_same_training(their, our, batches(12, 2, dtype))


@dtypes
@losses
@pytest.mark.parametrize("per_row", [1, 8])
def test_references(
    per_row: int, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "PAIRS_PER_ROW", per_row)
    labels = LABELS["uneven"]
    others = labels.roll(3)[:20]

    def wrapped(package: Any) -> Callable[..., Tensor]:
        loss = getattr(package, name)(0.2)
        return lambda x, y: loss(x, labels, ref_emb=y[:20], ref_labels=others)

    assert_same_training(wrapped(theirs), wrapped(ours), batches(24, 2, dtype))


def test_one_object_for_both_labels_leaves_out_a_row_itself() -> None:
    labels = LABELS["uneven"]

    def wrapped(package: Any) -> Callable[..., Tensor]:
        loss = package.NTXentLoss(0.2)
        return lambda x, y: loss(x, labels, ref_emb=y, ref_labels=labels)

    assert_same_training(wrapped(theirs), wrapped(ours), batches(24, 2, torch.float64))
    z = torch.randn(24, 6)
    with pytest.raises(NotImplementedError, match=r"pass labels\.clone\(\)"):
        ours.SupConLoss()(z, labels, ref_emb=z, ref_labels=labels)


@dtypes
@losses
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_self_supervised(n: int, symmetric: bool, name: str, dtype: torch.dtype) -> None:
    expected = theirs.SelfSupervisedLoss(getattr(theirs, name)(0.1), symmetric)
    steps = batches(n, 2, dtype)
    for wrapper in (theirs.SelfSupervisedLoss, ours.SelfSupervisedLoss):
        assert_same_training(expected, wrapper(getattr(ours, name)(0.1), symmetric), steps)


@losses
@pytest.mark.parametrize(
    ("labels", "ref_labels"),
    [([0], None), ([0, 0, 0], None), ([0, 1, 2], None), ([0], [0, 1]), ([0, 1], [2, 3])],
)
def test_nothing_to_compare(labels: list[int], ref_labels: list[int] | None, name: str) -> None:
    values = []
    for package in (theirs, ours):
        z = torch.ones(len(labels), 3, requires_grad=True)
        more = {} if ref_labels is None else {
            "ref_emb": torch.ones(len(ref_labels), 3), "ref_labels": torch.tensor(ref_labels)
        }  # fmt: skip
        loss = getattr(package, name)()(z, torch.tensor(labels), **more)
        loss.backward()
        values.append((loss.item(), z.grad))
    assert values[0][0] == values[1][0] == 0
    assert torch.equal(values[0][1], values[1][1])


@dtypes
def test_a_row_whose_references_are_all_positive(dtype: torch.dtype) -> None:
    def wrapped(package: Any) -> Callable[..., Tensor]:
        loss = package.NTXentLoss(0.3)
        return lambda x, y: loss(
            x, torch.tensor([0, 0, 1]), ref_emb=y, ref_labels=torch.tensor([0, 0, 0])
        )

    assert_same_training(wrapped(theirs), wrapped(ours), batches(3, 2, dtype))


def test_a_pair_that_underflows() -> None:
    found = []
    for package in (theirs, ours):
        z = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]], requires_grad=True)
        loss = package.NTXentLoss(0.008)(z, torch.tensor([0, 0, 1, 1]))  # -log(0 + tiny)
        found.append((loss, torch.autograd.grad(loss, z)[0]))
    torch.testing.assert_close(found[1], found[0])
    assert found[1][0].item() == pytest.approx(87.34, abs=0.01)


@losses
def test_default_reducers_are_taken(name: str) -> None:
    reducer = {"NTXentLoss": reducers.MeanReducer(), "SupConLoss": reducers.AvgNonZeroReducer()}
    z, labels = torch.randn(24, 6), LABELS["uneven"]
    found = getattr(ours, name)(reducer=reducer[name])(z, labels)
    torch.testing.assert_close(found, getattr(theirs, name)()(z, labels))


@pytest.mark.parametrize("same", [True, False])
@labelings
def test_pairs_are_those_of_the_labels_in_order(labeling: str, same: bool) -> None:
    labels = LABELS[labeling].unique(return_inverse=True)[1].int()
    label = labels if same else torch.cat([labels, labels[5:]])
    columns = labels if same else labels[5:]
    matches = labels[:, None] == columns
    if same:
        matches.fill_diagonal_(False)
    pairs = PositivePairs(label, 24, same)
    rows, others = torch.where(matches)
    assert pairs.count == len(rows)
    middle = pairs.count // 3
    for begin, end in ((0, pairs.count), (0, middle), (middle, pairs.count), (middle, middle)):
        found = pairs.between(begin, end)
        assert torch.equal(found[0], rows[begin:end])
        assert torch.equal(found[1], others[begin:end])


Z, IDS = torch.randn(4, 3), torch.tensor([0, 0, 1, 1])


@losses
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": distances.LpDistance()}, "distance must be None, CosineSimilarity"),
        ({"distance": distances.CosineSimilarity(power=2)}, "power=1"),
        ({"distance": distances.CosineSimilarity(p=1)}, "p=2"),
        ({"reducer": reducers.SumReducer()}, "reducer must be None or .*use pytorch_metric"),
        ({"embedding_regularizer": regularizers.LpRegularizer()}, "add its value to the loss"),
        ({"collect_stats": True}, "collect_stats"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str, name: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        getattr(ours, name)(**options)


@losses
def test_errors(name: str) -> None:
    loss = getattr(ours, name)()
    with pytest.raises(NotImplementedError, match="indices_tuple must be None"):
        loss(Z, IDS, (IDS, IDS, IDS))
    for arguments, error, message in (
        ((Z,), ValueError, "labels are required"),
        ((Z, IDS, None, Z), ValueError, "ref_emb and ref_labels are required together"),
        ((Z, IDS[:2]), ValueError, r"labels must be \[4\], got shape \(2,\)"),
        ((Z, IDS, None, Z, IDS[:2]), ValueError, r"ref_labels must be \[4\]"),
        ((Z, IDS, None, Z[:, :2], IDS), ValueError, r"ref_emb must be \[K, 3\]"),
        ((Z, [0, 0, 1, 1]), TypeError, "labels must be a tensor of integers, got list"),
        ((Z, IDS.float()), TypeError, "labels must be a tensor of integers"),
        ((Z[0], IDS), ValueError, r"embeddings must be \[N, D\]"),
    ):
        with pytest.raises(error, match=message):
            loss(*arguments)
    with pytest.raises(ValueError, match="temperature must be positive"):
        type(loss)(0.0)
