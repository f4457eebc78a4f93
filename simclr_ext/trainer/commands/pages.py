"""`simclr-ext pages`: maps of the representations, and test images with nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.commands.map import MapPart, write_map
from simclr_ext.trainer.commands.session import open_session
from simclr_ext.trainer.config.commands import PagesConfig
from simclr_ext.trainer.pages.neighbors import neighbors_page
from simclr_ext.trainer.pages.thumbnails import MOST as THUMBNAIL_SIDE
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.knn import other_neighbors
from simclr_ext.trainer.probes.optional import left_out
from simclr_ext.trainer.probes.tsne import TSNE_POINTS, plot_tsne


@dataclass(frozen=True)
class PagesResult:
    """The drawn pages.

    Attributes:
        files: neighbors.html and, if they could be drawn, tsne.png and map.html.
        left_out: Images that are not on map.html, as there are more than `map_images`.
    """

    files: tuple[Path, ...]
    left_out: int = 0

    def __str__(self) -> str:
        """Return what the command line prints."""
        lines = [*map(str, self.files)]
        if self.left_out:
            lines.append(f"map.html leaves out {self.left_out:,} images, see --map_images")
        return "\n".join(lines)


def run_pages(config: PagesConfig, module: nn.Module | None = None) -> PagesResult:
    """Draw the pages; see `simclr_ext.trainer.draw_pages`."""
    with open_session(config, module) as session:
        data = session.data
        folder = session.folder(config.out, f"pages-{data.name}")
        encoder, _ = session.encoder()
        name, shown = data.unseen(TSNE_POINTS, config.seed)
        train = encode(encoder, data.train.images, session.side)
        test = encode(encoder, shown.images, session.side)
    rows = np.random.default_rng(config.seed).permutation(len(shown))[: config.queries]
    queries = shown.take(torch.from_numpy(rows))
    own = torch.full((len(rows),), -1)
    if name == "training":
        places = {key: row for row, key in enumerate(data.train.ids.tolist())}
        own = torch.tensor([places[key] for key in queries.ids.tolist()])
    found = other_neighbors(train, test[rows], own, config.neighbors)
    page, picture, map_page = (folder / n for n in ("neighbors.html", "tsne.png", "map.html"))
    write_text(page, neighbors_page(data.name, queries, data.train, found, data.class_names))
    files = [page]
    with left_out(picture.name):
        title = f"t-SNE of h, {min(len(shown), TSNE_POINTS):,} {name} images"
        plot_tsne(picture, test, shown.labels, data.class_names, config.seed, title)
        files.append(picture)
    missing = 0
    if config.map_images:
        small = data.at(min(session.side, THUMBNAIL_SIDE), config.workers)
        parts = [MapPart("train", small.train, train)]
        if len(small.test) > 0:
            parts.append(MapPart("test", small.test, test))
        with left_out(map_page.name):
            k, most, seed = config.neighbors, config.map_images, config.seed
            missing = write_map(map_page, data.name, parts, data.class_names, k, most, seed)
            files.append(map_page)
    return PagesResult(tuple(files), missing)
