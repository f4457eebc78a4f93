"""The options of a study: which one, on what data, how large. Needs no extra to be imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simclr_ext.options.checks import check, check_at_least, check_null_or_at_least, check_types

STUDIES = (
    "augmentations",
    "batch-epochs",
    "color-histograms",
    "color-strength",
    "h-vs-z",
    "illustrate",
    "losses",
    "projection-head",
    "temperature",
    "tsne",
)
"""Names of the studies; each is a file of paper/, with underscores in the name."""

ScaleName = Literal["tiny", "cpu", "paper"]


@dataclass(frozen=True)
class StudyConfig:
    """A study of the paper, on a data set.

    Attributes:
        study: Its name, one of those that `simclr-ext study --help` lists.
        data: Data set, as for `train`.
        data_root: Folder of the named data sets, such as cifar10, and of downloads.
        download: Whether to download the data set if it is missing.
        scale: "tiny" (seconds per training: a test that the study runs), "cpu" (a minute of one
            core per training, for 10,000 images) or "paper" (the paper's recipe).
        out: Folder of the results; null: studies/<study>-<data>-<scale>. If the same study was
            begun there, it is resumed: finished cells are not run again.
        seeds: Repetitions of every training; null: the scale's.
        jobs: Processes that run cells in parallel; in a script, more than one needs
            `if __name__ == "__main__":`.
        threads: CPU threads of each process; null: the processor's, divided by the jobs.
        device: PyTorch device, such as "cpu" or "cuda".
    """

    study: str
    data: str = "digits"
    data_root: str = "data"
    download: bool = False
    scale: ScaleName = "tiny"
    out: str | None = None
    seeds: int | None = None
    jobs: int = 1
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_types(self)
        check(self.study in STUDIES, "study", self.study, f"one of {', '.join(STUDIES)}")
        check(self.data != "", "data", self.data, "the name of a data set, a file or a folder")
        check(self.out != "", "out", self.out, "null or the path of a folder")
        check_null_or_at_least("seeds", self.seeds, 1)
        check_at_least("jobs", self.jobs, 1)
        check_null_or_at_least("threads", self.threads, 1)

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        if self.out is not None:
            return Path(self.out).expanduser()
        return Path("studies") / f"{self.study}-{Path(self.data).stem}-{self.scale}"
