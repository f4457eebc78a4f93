"""Crops of one image share its colors, unless they are distorted (section 3.1, figure 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import COLORS
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.pictures import show, to_text
from simclr_ext.studies.material.summary import cell_of, ordering, over_seeds
from simclr_ext.trainer.probes.tables import markdown_table
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.augment import Augment, crop_and_flip

_IMAGES, _CROPS = 2, 4  # in the picture
_BINS = 32
_RECOGNIZED = 500  # maximum number of images, of two crops each, whose crops are to be recognized
_NAMES = {"none": "crops", "color": "crops with color distortion"}
_STYLES = ("-", "--", "-.", ":")


def _variants(scale: ScaleName) -> list[Variant]:
    return [{"distortion": distortion} for distortion in _NAMES]


def _measure(cell: Cell, context: Context) -> list[Row]:
    """Return a row per bin of each crop's histogram, one per picture, and how many are recognized.

    Both cells of a seed have the same crops of the same images.
    """
    images, config = context.data.train.images, context.config
    images = images[torch.randperm(len(images), generator=generator(cell.seed))[:_RECOGNIZED]]
    crop = crop_and_flip(config.augment, config.side)
    distorted = dataclasses.replace(config.augment, blur_probability=0.0)
    augment = Augment(distorted, config.side) if cell.variant["distortion"] == "color" else crop

    random = generator(cell.seed)
    histograms = torch.cat([_histograms(augment(images, random)) for _ in range(2)])
    rows: list[Row] = [{"recognized": recognized(histograms), "images": len(images)}]
    for number, image in enumerate(images[:_IMAGES]):
        rows.append({"image": number, "png": to_text(image)})
        views = augment(image.expand(_CROPS, -1, -1, -1), random)
        for index, (view, histogram) in enumerate(zip(views, _histograms(views), strict=True)):
            rows.append({"image": number, "crop": index, "png": to_text(view)})
            rows += [
                {"image": number, "crop": index, "bin": bin_, "share": share}
                for bin_, share in enumerate(histogram.tolist())
            ]
    return rows


def _histograms(views: Tensor) -> Tensor:
    """Return the share of the values of views [B, C, H, W], all channels together, in each bin."""
    bins = (views * _BINS).long().clamp_(max=_BINS - 1).flatten(1).cpu()
    one = torch.ones((), dtype=torch.float64).expand_as(bins)
    counts = torch.zeros(len(bins), _BINS, dtype=torch.float64).scatter_add_(1, bins, one)
    return counts / bins.shape[1]  # [B, bins]


def recognized(histograms: Tensor) -> float:
    """Return the share of crops whose nearest histogram is that of their image's other crop.

    Args:
        histograms: [2N, bins]; rows i and i + N are of one image. The distance is the sum of
            absolute differences.

    Example:
        >>> recognized(torch.tensor([[0.9, 0.1], [0.2, 0.8], [1.0, 0.0], [0.1, 0.9]]))
        1.0
    """
    distance = torch.cdist(histograms, histograms, p=1).fill_diagonal_(torch.inf)
    partner = torch.arange(len(histograms)).roll(len(histograms) // 2)
    return float((distance.argmin(dim=1) == partner).double().mean())


def _draw(rows: Sequence[Row]) -> Figure:
    """Draw a row per image: the image, its crops and their histograms, then both distorted."""
    rows = [row for row in rows if row["seed"] == rows[0]["seed"]]
    figure = Figure(figsize=(14, 6))
    panels = figure.subfigures(_IMAGES, 1, squeeze=False)[:, 0]
    top = max(100 * float(row["share"]) for row in rows if "share" in row)
    for number, panel in enumerate(panels):
        left, *pairs = panel.subfigures(1, 5, width_ratios=(1.0, 1.0, 2.4, 1.0, 2.4))
        for index, distortion in enumerate(_NAMES):
            own = [
                row for row in rows
                if row["distortion"] == distortion and row.get("image") == number
            ]  # fmt: skip
            if not own:  # the cell failed
                continue
            pictures = [str(row["png"]) for row in own if "png" in row]
            if not left.axes:
                show(left.subplots(), pictures[0])
            crops = pairs[2 * index].subplots(2, 2)
            for crop, picture in enumerate(pictures[1:]):
                show(crops.flat[crop], picture, COLORS[crop], _STYLES[crop])
            histogram = pairs[2 * index + 1].subplots()
            _draw_histograms(histogram, own, top)
            if number == 0:
                pairs[2 * index + 1].suptitle(_NAMES[distortion])
    return figure


def _draw_histograms(axes: Axes, rows: Sequence[Row], top: float) -> None:
    """Draw the histograms of an image's crops."""
    edges = torch.linspace(0, 255, _BINS + 1)
    for crop, style in enumerate(_STYLES):
        shares = [
            100 * float(row["share"]) for row in rows if row.get("crop") == crop and "share" in row
        ]
        axes.stairs(shares, edges, color=COLORS[crop], ls=style, lw=2)
    axes.set_ylim(0, 1.05 * top)
    axes.set(xlabel="intensity, all channels", ylabel="pixels, %")


def _findings(rows: Sequence[Row]) -> Findings:
    found = over_seeds(rows, ["distortion"], "recognized")
    images = next(int(row["images"]) for row in rows if "images" in row)
    table = [[title, cell_of(found.get((name,)))] for name, title in _NAMES.items()]
    return Findings(
        markdown_table(["views", "recognized by their histogram, %"], table),
        (
            ordering(
                "Crops of one image share their intensities, and color distortion hides it",
                found.get(("none",)),
                found.get(("color",)),
            ),
        ),
        f"There are {images:,} images with two crops each. A crop is recognized if, among all "
        "other crops, the one with the nearest histogram is of the same image; by chance, "
        f"{100 / (2 * images - 1):.1f} % are. The paper shows histograms, and no numbers.",
    )


STUDY = Study(
    title="Color histograms of crops",
    question="Can crops of one image be recognized by their colors alone, so that a network may "
    "ignore everything else?",
    source="section 3.1, figure 6",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
