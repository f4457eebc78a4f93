"""map.html of `simclr-ext pages`: the images of a data set on a map of their h."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize
from torch import Tensor

from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.data import Images, Part
from simclr_ext.trainer.data.png import visible, visible_note
from simclr_ext.trainer.pages.map import ImageMap, map_page
from simclr_ext.trainer.pages.thumbnails import shrink
from simclr_ext.trainer.probes.features import Features, Labels
from simclr_ext.trainer.probes.knn import other_neighbors
from simclr_ext.trainer.probes.tsne import COLORS, tsne

_CHUNK = 256  # images that are decoded at a time


@dataclass(frozen=True)
class MapPart:
    """A part of a data set.

    Attributes:
        name: Its name, such as "test".
        part: The images.
        features: Their h, [n, dim].
    """

    name: str
    part: Part
    features: Features

    def name_of(self, row: int) -> str:
        """Return the name of an image: its path, or its part and row number."""
        key = os.fsdecode(self.part.ids[row])
        return f"{self.name} {key}" if key.isdigit() else key


def write_map(
    path: Path,
    name: str,
    parts: Sequence[MapPart],
    class_names: Sequence[str],
    neighbors: int,
    most: int,
    seed: int,
) -> int:
    """Write the map of the images of all parts, or of a random `most` of them.

    Args:
        path: HTML file to write.
        name: Name of the data set.
        parts: The images.
        class_names: Name of each label.
        neighbors: Neighbors of each image.
        most: Maximum number of images.
        seed: Seed of the choice, of t-SNE and of the clusters.

    Returns:
        How many images are left out.

    Raises:
        DataError: As for `probes/tsne.py`: the features are degenerate.
    """
    total = sum(len(part.part) for part in parts)
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:most])
    starts = np.cumsum([0, *(len(part.part) for part in parts)])
    rows = [
        chosen[(chosen >= start) & (chosen < end)] - start
        for start, end in itertools.pairwise(starts)
    ]
    shown = list(zip(parts, rows, strict=True))
    features = np.concatenate([part.features[own] for part, own in shown])
    positions = tsne(features, seed)  # first: it finds what is degenerate
    own_labels = np.concatenate([part.part.labels.numpy()[own] for part, own in shown])
    classes, names, labels = _classes(own_labels, class_names, features, seed)
    coloring = "its class" if labels else "its cluster, by k-means on the directions of h"
    which = f"All {total:,} images" if total <= most else f"{most:,} of {total:,} images, at random"
    every = torch.arange(len(features))
    page = map_page(
        ImageMap(
            title=f"Map of {name}",
            note=f"{which}, by t-SNE of h. Color and shape of a point: {coloring}. Neighbors: "
            "nearest by cosine similarity of h, among the images on the map. "
            f"{visible_note(parts[0].part.channels)}".rstrip(),
            positions=positions,
            thumbnails=torch.cat([_thumbnails(part.part.images, own) for part, own in shown]),
            names=[part.name_of(row) for part, own in shown for row in own],
            neighbors=other_neighbors(features, features, every, neighbors).numpy(),
            classes=classes,
            class_names=names,
            labels=labels,
        )
    )
    write_text(path, page)
    return total - len(chosen)


def _classes(
    labels: Labels, class_names: Sequence[str], features: Features, seed: int
) -> tuple[Labels, Sequence[str], int]:
    """Return the class of each image, the names of the classes, and how many are labels."""
    missing = labels < 0
    if missing.all():
        found = clusters(features, seed)
        return found, [f"cluster {number + 1}" for number in range(found.max() + 1)], 0
    if not missing.any():
        return labels, class_names, len(class_names)
    classes = np.where(missing, len(class_names), labels)
    return classes, [*class_names, "no label"], len(class_names)


def _thumbnails(images: Images, rows: NDArray[np.int64]) -> Tensor:
    """Return thumbnails of some of the images."""
    chunks = torch.split(torch.from_numpy(rows), _CHUNK)
    return torch.cat([shrink(visible(images[chunk])) for chunk in chunks])


def clusters(features: Features, seed: int) -> Labels:
    """Return the cluster of each row of features [n, dim], largest first, [n].

    k-means of the directions, whose squared distances are 2 - 2 times the cosine similarity, into
    as many clusters as there are colors.
    """
    directions = normalize(features)
    count = min(len(COLORS), len(np.unique(directions, axis=0)))
    found = KMeans(count, n_init=3, random_state=seed).fit_predict(directions)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    ranks: Labels = np.argsort(order)[found].astype(np.int64)
    return ranks
