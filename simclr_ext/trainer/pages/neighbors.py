"""neighbors.html: images, and beside each the nearest ones."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from simclr_ext.trainer.data import NO_LABEL, Part
from simclr_ext.trainer.data.png import data_url, visible_note

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 18px/1.3 sans-serif; margin: 2em }}
  table {{ border-collapse: collapse }}
  th {{ font-weight: normal; text-align: left; padding: 0 8px 8px }}
  td {{ padding: 5px 8px; text-align: center; vertical-align: top }}
  td:first-child {{ border-right: 2px solid #888 }}
  img {{ display: block; width: 88px; height: 88px; object-fit: contain; margin: 0 auto 2px;
         image-rendering: pixelated; border: 5px solid transparent }}
  .same img {{ border-color: #3f90da }}
  .other img {{ border-color: #e76300; border-style: dashed }}
  .other {{ font-style: italic }}
  @media (max-width: 700px) {{
    body {{ margin: 1em }}
    tr {{ display: flex; flex-wrap: wrap; border-bottom: 2px solid #888 }}
    td:first-child {{ border-right: 0 }}
  }}
</style>
<h1>{title}</h1>
<p>{count} images, and the training images that are nearest by cosine similarity of h. {legend}
{note}</p>
<table>
<tr><th>image</th><th colspan="{neighbors}">nearest training images, nearest first</th></tr>
{rows}
</table>
"""
_LEGEND = "Blue, solid: same class, {share:.0%} of them. Orange, dashed, &ne;: another class."


def neighbors_page(
    name: str, queries: Part, index: Part, neighbors: Tensor, class_names: Sequence[str]
) -> str:
    """Return an HTML page with the pictures in it.

    Args:
        name: Name of the data set.
        queries: The images to which the nearest are shown, [q].
        index: The images among which they are.
        neighbors: Rows of `index` that are nearest to each query, [q, k].
        class_names: Name of each label; empty: there are none.
    """
    names = (*class_names, "")  # the last is that of NO_LABEL, -1
    lines, same, pairs = [], 0, 0
    for row, nearest in enumerate(neighbors):
        query, found = queries.take(torch.tensor([row])), index.take(nearest)
        own, labels = int(query.labels), found.labels.tolist()
        cells = [_cell(query.images[:][0], query.ids[0], names[own], "query")]
        for image, key, label in zip(found.images[:], found.ids, labels, strict=True):
            kind, text = "none", names[label]
            if NO_LABEL not in (own, label):
                kind = "same" if own == label else "other"
                text = text if own == label else f"\u2260 {text}"
                same, pairs = same + (own == label), pairs + 1
            cells.append(_cell(image, key, text, kind))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _PAGE.format(
        title=f"Nearest neighbors, {html.escape(name)}",
        count=len(queries),
        legend=_LEGEND.format(share=same / pairs) if pairs else "",
        neighbors=neighbors.shape[1],
        rows="\n".join(lines),
        note=visible_note(queries.channels),
    )


def _cell(image: Tensor, key: bytes, text: str, kind: str) -> str:
    text, title = html.escape(text), html.escape(os.fsdecode(key))
    picture = f'<img alt="{text or title}" title="{title}" src="{data_url(image)}">'
    return f'<td class="{kind}">{picture}{text}</td>'
