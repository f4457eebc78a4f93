"""k-NN against plain loops, and in chunks."""

import numpy as np
import pytest
import torch

from simclr_ext.trainer.probes import knn
from simclr_ext.trainer.probes.features import Features, Labels
from simclr_ext.trainer.probes.knn import (
    find_neighbors,
    nearest_neighbors,
    other_neighbors,
    rank_by_neighbors,
)


def knn_by_hand(
    train: Features, labels: Labels, test: Features, k: int, temperature: float
) -> list[list[int]]:
    """Weighted k-NN with plain loops, in float64: the classes with votes, most votes first."""
    predicted = []
    for x in test.astype(np.float64):
        cosines = [float(x @ t / np.linalg.norm(x) / np.linalg.norm(t)) for t in train]
        votes: dict[int, float] = {}
        for i in sorted(range(len(train)), key=lambda i: -cosines[i])[:k]:
            label = int(labels[i])
            votes[label] = votes.get(label, 0.0) + np.exp(cosines[i] / temperature)
        predicted.append(sorted(votes, key=lambda label: -votes[label]))
    return predicted


@pytest.mark.parametrize(("k", "chunk"), [(1, 7), (5, 100), (7, 2), (1000, 1)])
def test_nearest_neighbors_vote_by_similarity(k: int, chunk: int) -> None:
    random = np.random.default_rng(0)
    train = random.normal(size=(40, 6)).astype(np.float32)
    labels, test = random.integers(0, 7, 40), random.normal(size=(15, 6)).astype(np.float32)
    expected = knn_by_hand(train, labels, test, k, 0.3)
    ours = nearest_neighbors(train, labels, test, k, temperature=0.3, chunk=chunk)
    assert ours.tolist() == [classes[0] for classes in expected]
    ranking = rank_by_neighbors(train, labels, test, k, temperature=0.3, chunk=chunk)
    assert ranking.tolist() == [(classes + 5 * [-1])[:5] for classes in expected]


def test_the_nearest_wins_at_any_temperature() -> None:
    train, labels = np.eye(3, dtype=np.float32), np.array([2, 0, 1])
    test = np.array([[0.1, -1, 0.05], [-3, -1, -2]], np.float32)
    ranking = rank_by_neighbors(train, labels, test, neighbors=2, temperature=1e-4)
    assert ranking.tolist() == [[2, 1, -1], [0, 1, -1]]


def test_neighbors_do_not_depend_on_the_chunks() -> None:
    random = np.random.default_rng(0)
    train = random.normal(size=(50, 6)).astype(np.float32)
    test = random.normal(size=(9, 6)).astype(np.float32)
    whole = find_neighbors(train, test, 6)
    assert whole[1].shape == (9, 6)
    for chunk in (1, 2, 5):
        similarities, rows = find_neighbors(train, test, 6, chunk)
        assert torch.equal(rows, whole[1])
        assert (similarities - whole[0]).abs().max() < 1e-6


def test_the_full_similarity_matrix_is_never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    search = knn._search

    def spy(queries: torch.Tensor, keys: torch.Tensor, neighbors: int, chunk: int) -> object:
        shapes.append((len(queries), chunk))
        return search(queries, keys, neighbors, chunk)

    monkeypatch.setattr(knn, "_search", spy)
    find_neighbors(np.ones((100, 2), np.float32), np.ones((10, 2), np.float32), 3, chunk=4)
    assert shapes == [(4, 32), (4, 32), (2, 32)]


def test_an_image_is_not_its_own_neighbor() -> None:
    equal = np.ones((9, 2), np.float32)
    found = other_neighbors(equal, equal, torch.arange(9), 3)
    assert found.shape == (9, 3)
    assert not (found == torch.arange(9)[:, None]).any()
    apart = np.eye(3, dtype=np.float32)
    assert other_neighbors(apart, apart, torch.arange(3), 8).shape == (3, 2)  # there are no more
    assert other_neighbors(apart, apart[:1], torch.tensor([-1]), 2).tolist()[0][0] == 0
