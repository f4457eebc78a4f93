"""`simclr-ext pages`: a map of the representations, and test images with nearest neighbors."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.commands.session import open_session
from simclr_ext.trainer.config.commands import PagesConfig
from simclr_ext.trainer.data import NO_LABEL, Dataset, Part
from simclr_ext.trainer.data.png import data_url
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.knn import find_neighbors
from simclr_ext.trainer.probes.optional import left_out
from simclr_ext.trainer.probes.tsne import TSNE_POINTS, plot_tsne

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
  body {{ font: 18px/1.3 sans-serif; margin: 2em; color: #222 }}
  table {{ border-collapse: collapse }}
  th {{ font-weight: normal; text-align: left; padding: 0 8px 8px }}
  td {{ padding: 5px 8px; text-align: center; vertical-align: top }}
  td:first-child {{ border-right: 2px solid #888 }}
  img {{ display: block; width: 88px; height: 88px; object-fit: contain; margin: 0 auto 2px;
         image-rendering: pixelated; border: 5px solid transparent }}
  .same img {{ border-color: #3f90da }}
  .other img {{ border-color: #e76300; border-style: dashed }}
  .other {{ font-style: italic }}
</style>
<h1>{title}</h1>
<p>{count} images, and the training images that are nearest by cosine similarity of h. {legend}</p>
<table>
<tr><th>image</th><th colspan="{neighbors}">nearest training images, nearest first</th></tr>
{rows}
</table>
"""
_LEGEND = "Blue, solid: same class, {share:.0%} of them. Orange, dashed, &ne;: another class."


@dataclass(frozen=True)
class PagesResult:
    """The drawn pages.

    Attributes:
        files: neighbors.html and, if it could be drawn, tsne.png.
    """

    files: tuple[Path, ...]

    def __str__(self) -> str:
        """Return what the command line prints."""
        return "\n".join(map(str, self.files))


def run_pages(config: PagesConfig, module: nn.Module | None = None) -> PagesResult:
    """Draw the pages; see `simclr_ext.trainer.draw_pages`."""
    with open_session(config, module) as session:
        data = session.data
        folder = session.folder(config.out, f"pages-{data.name}")
        encoder, _ = session.encoder()
        name, shown = data.unseen(TSNE_POINTS, config.seed)
        train = encode(encoder, data.train.images, session.side)
        test = encode(encoder, shown.images, session.side)
    rows = torch.from_numpy(np.random.default_rng(config.seed).permutation(len(shown)))
    queries = rows[: config.queries]
    # If the queries are training images, the nearest one is the query itself.
    itself = int(name == "training")
    _, neighbors = find_neighbors(train, test[queries], config.neighbors + itself)
    page, picture = folder / "neighbors.html", folder / "tsne.png"
    write_text(page, neighbors_page(data, shown.take(queries), neighbors[:, itself:]))
    files = [page]
    with left_out(picture.name):
        title = f"t-SNE of h, {min(len(shown), TSNE_POINTS):,} {name} images"
        plot_tsne(picture, test, shown.labels, data.class_names, config.seed, title)
        files.append(picture)
    return PagesResult(tuple(files))


def neighbors_page(data: Dataset, queries: Part, neighbors: Tensor) -> str:
    """Return an HTML page with the pictures in it.

    Args:
        data: The training images, and the names of the classes.
        queries: The images to which the nearest are shown, [q].
        neighbors: Rows of the training images nearest to each, [q, k].
    """
    names = (*data.class_names, "")  # the last is that of NO_LABEL, -1
    lines, same, pairs = [], 0, 0
    for row, nearest in enumerate(neighbors):
        query, found = queries.take(torch.tensor([row])), data.train.take(nearest)
        own = int(query.labels)
        cells = [_cell(query.images[:][0], query.ids[0], names[own], "query")]
        for image, key, label in zip(
            found.images[:], found.ids, found.labels.tolist(), strict=True
        ):
            kind, text = "none", names[label]
            if NO_LABEL not in (own, label):
                kind = "same" if own == label else "other"
                text = text if own == label else f"\u2260 {text}"
                same, pairs = same + (own == label), pairs + 1
            cells.append(_cell(image, key, text, kind))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _PAGE.format(
        title=f"Nearest neighbors, {html.escape(data.name)}",
        count=len(queries),
        legend=_LEGEND.format(share=same / pairs) if pairs else "",
        neighbors=neighbors.shape[1],
        rows="\n".join(lines),
    )


def _cell(image: Tensor, key: bytes, text: str, kind: str) -> str:
    text, title = html.escape(text), html.escape(os.fsdecode(key))
    picture = f'<img alt="{text or title}" title="{title}" src="{data_url(image)}">'
    return f'<td class="{kind}">{picture}{text}</td>'
