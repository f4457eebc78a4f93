"""`simclr-ext neighbors`: the images of a data set that are most like others."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.commands.session import Session, open_for, open_session
from simclr_ext.trainer.config.commands import NeighborsConfig
from simclr_ext.trainer.data import Dataset, LazyImages, Part, absolute_data
from simclr_ext.trainer.pages.neighbors import neighbors_page
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.knn import find_neighbors


@dataclass(frozen=True)
class NeighborsResult:
    """The neighbors that were found.

    Attributes:
        files: neighbors.csv and neighbors.html.
        similarities: Cosine similarities of h, [q, k], largest first.
        ids: Ids of the neighbors, a tuple for each query.
    """

    files: tuple[Path, ...]
    similarities: Tensor
    ids: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """Return what the command line prints."""
        return "\n".join(map(str, self.files))


def run_neighbors(config: NeighborsConfig, module: nn.Module | None = None) -> NeighborsResult:
    """Find the neighbors; see `simclr_ext.trainer.find_neighbors`."""
    with open_session(config, module, split=False) as session:
        data, queries = session.data, _queries(session, config)
        folder = session.folder(config.out, f"neighbors-{queries.name}")
        encoder, _ = session.encoder()
        index = encode(encoder, data.train.images, session.side)
        features = encode(encoder, queries.train.images, session.side)
    similarities, rows = find_neighbors(index, features, config.neighbors)
    table, page = folder / "neighbors.csv", folder / "neighbors.html"
    write_text(table, _table(data, queries.train, similarities, rows))
    shown = queries.train.take(torch.arange(min(len(queries.train), config.pictures)))
    nearest = rows[: len(shown)]
    write_text(page, neighbors_page(queries.name, shown, data.train, nearest, data.class_names))
    ids = tuple(tuple(map(os.fsdecode, data.train.ids[row])) for row in rows.numpy())
    return NeighborsResult((table, page), similarities, ids)


def _queries(session: Session, config: NeighborsConfig) -> Dataset:
    """Return the images to find neighbors for, all in one part.

    Raises:
        DataError: As for `open_for`, or they have test images apart.
    """
    run, name = session.checkpoint.config, absolute_data(config.queries)
    # Without labels there is no split but the data set's own.
    queries = open_for(run, name, dataclasses.replace(run.images, labels=False), config, load=False)
    if len(queries.test) > 0:
        raise DataError(f"queries: {name} has training and test images: name one of the folders")
    # The queries are cropped if the images of the index are.
    crop = isinstance(session.data.train.images, LazyImages)
    return queries.with_lazy(lambda images: dataclasses.replace(images, crop=crop))


def _table(data: Dataset, queries: Part, similarities: Tensor, rows: Tensor) -> str:
    """Return a line for every query and neighbor, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("query", "rank", "neighbor", "class", "similarity"))
    names = (*data.class_names, "")  # the last is that of NO_LABEL, -1
    for query, nearest, values in zip(queries.ids, rows.tolist(), similarities, strict=True):
        for rank, (row, value) in enumerate(zip(nearest, values.tolist(), strict=True), start=1):
            neighbor = os.fsdecode(data.train.ids[row])
            name = names[int(data.train.labels[row])]
            writer.writerow((os.fsdecode(query), rank, neighbor, name, f"{value:.4f}"))
    return text.getvalue()
