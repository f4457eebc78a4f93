"""`simclr-ext pages`: a map of the representations, and test images with nearest neighbors."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.commands.session import open_session
from simclr_ext.trainer.config.commands import PagesConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.data.png import data_url
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.knn import find_neighbors
from simclr_ext.trainer.probes.optional import left_out
from simclr_ext.trainer.probes.tsne import plot_tsne

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
<p>{count} test images, and the training images that are nearest by cosine similarity of h.
Blue, solid: same class, {share:.0%} of them. Orange, dashed, &ne;: another class.</p>
<table>
<tr><th>test image</th><th colspan="{neighbors}">nearest training images, nearest first</th></tr>
{rows}
</table>
"""


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


def run_pages(config: PagesConfig) -> PagesResult:
    """Draw the pages; see `simclr_ext.trainer.draw_pages`."""
    with open_session(config) as session:
        data = session.data
        folder = session.folder(config.out, f"pages-{data.name}")
        encoder, _ = session.encoder()
        train = encode(encoder, data.train_images, session.side)
        test = encode(encoder, data.test_images, session.side)
    shown = np.random.default_rng(config.seed).permutation(len(test))[: config.queries]
    _, rows = find_neighbors(train, test[shown], config.neighbors)
    page, picture = folder / "neighbors.html", folder / "tsne.png"
    write_text(page, neighbors_page(data, torch.from_numpy(shown), rows))
    files = [page]
    with left_out(picture.name):
        plot_tsne(picture, test, data.test_labels, data.class_names, config.seed)
        files.append(picture)
    return PagesResult(tuple(files))


def neighbors_page(data: Dataset, queries: Tensor, neighbors: Tensor) -> str:
    """Return an HTML page with the pictures in it.

    Args:
        data: The images.
        queries: Rows of test images, [q].
        neighbors: Rows of the training images nearest to each, [q, k].
    """
    lines = []
    for query, nearest in zip(queries, neighbors, strict=True):
        label = int(data.test_labels[query])
        (image,) = data.test_images[query[None]]
        cells = [_cell(image, data.class_names[label], "query")]
        for row, image in zip(nearest, data.train_images[nearest], strict=True):
            own = int(data.train_labels[row])
            name = data.class_names[own]
            kind, text = ("same", name) if own == label else ("other", f"\u2260 {name}")
            cells.append(_cell(image, text, kind))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    same = data.train_labels[neighbors] == data.test_labels[queries][:, None]
    return _PAGE.format(
        title=f"Nearest neighbors, {html.escape(data.name)}",
        count=len(queries),
        share=float(same.double().mean()),
        neighbors=neighbors.shape[1],
        rows="\n".join(lines),
    )


def _cell(image: Tensor, text: str, kind: str) -> str:
    text = html.escape(text)
    return f'<td class="{kind}"><img alt="{text}" src="{data_url(image)}">{text}</td>'
