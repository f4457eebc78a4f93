"""A whole study: its folder, the sweep over its cells, and the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simclr_ext.options.checks import check_device
from simclr_ext.options.errors import RunFolderError
from simclr_ext.options.read_yaml import read_yaml
from simclr_ext.options.serialize import differences, to_plain
from simclr_ext.options.threads import check_threads
from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine.report import orderings, reason, write_results
from simclr_ext.studies.engine.scales import SCALES, open_context
from simclr_ext.studies.engine.study import Context, Findings, load_study
from simclr_ext.studies.engine.sweep import Outcome, outcomes, sweep
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.lock import LOCK, locked
from simclr_ext.trainer.probes.features import fingerprint
from simclr_ext.trainer.training.preflight import check_loss


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    Attributes:
        folder: Folder of the table, the picture and the report.
        findings: What the rows show.
        failed: The cells that failed.
    """

    folder: Path
    findings: Findings
    failed: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 1 if a cell failed."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        """Return what the command line prints."""
        failed = "\n".join(
            f"failed: {outcome.cell.id}: {reason(outcome)}" for outcome in self.failed
        )
        parts = [self.findings.table, orderings(self.findings.orderings), failed]
        parts.append(f"report: {self.folder / 'report.md'}")
        return "\n\n".join(part for part in parts if part)


def run(config: StudyConfig) -> StudyResult:
    """Run a study; see `simclr_ext.studies.run_study`."""
    study = load_study(config.study)
    seeds = config.seeds or SCALES[config.scale].seeds
    context = open_context(config)
    check_device(config.device)
    check_threads(config.threads)
    check_loss(context.config.temperature, config.device)
    cells = study.cells(config.scale, seeds)
    with _claimed(config.folder, _description(config, context)):
        sweep(config, cells, context, config.folder)
        found = outcomes(config.folder, cells)
        findings = write_results(config.folder, study, config, context, found)
    failed = tuple(outcome for outcome in found if outcome.error is not None)
    return StudyResult(config.folder, findings, failed)


def _description(config: StudyConfig, context: Context) -> dict[str, Any]:
    """Return everything that a cell's rows depend on, for study.yaml."""
    data = context.data
    train, test = (data.train.images, data.train.labels), (data.test.images, data.test.labels)
    return {
        "study": config.study,
        "scale": config.scale,
        "images": fingerprint(*train, *test, data.class_names),
        "recipe": to_plain(dataclasses.replace(context.config, data=data.name)),
    }


@contextmanager
def _claimed(folder: Path, description: dict[str, Any]) -> Iterator[None]:
    """Create or open the folder of this study, and keep other processes out of it.

    Raises:
        RunFolderError: The folder is not this study's, is damaged, or cannot be created, or another
            process is at work in it.
    """
    file = folder / "study.yaml"
    if not file.exists() and folder.exists() and (not folder.is_dir() or not _is_fresh(folder)):
        raise RunFolderError(f"out: {folder} exists and is not the folder of a study")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out: cannot create {file}: {error.strerror}") from error
    with locked(folder):
        _claim(folder, description)
        yield


def _claim(folder: Path, description: dict[str, Any]) -> None:
    """Write study.yaml, or compare it with the study if it exists."""
    file = folder / "study.yaml"
    if file.exists():
        other = ", ".join(
            f"{name} ({there} there, {now} now)"
            for name, (there, now) in differences(_read(file), description).items()
        )
        if other:
            raise RunFolderError(f"out: {folder} has a study with other values: {other}")
        return
    write_text(file, yaml.safe_dump(description, sort_keys=False))


def _read(file: Path) -> dict[str, Any]:
    """Return the contents of study.yaml."""
    try:
        contents = read_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RunFolderError(f"out: {file} cannot be read ({reason})") from error
    if not isinstance(contents, dict):
        raise RunFolderError(f"out: {file} is not the file of a study")
    return contents


def _is_fresh(folder: Path) -> bool:
    """Return whether a folder is empty, or has only what a start that was interrupted leaves."""
    return all(path.name in ("study.yaml.partial", LOCK) for path in folder.iterdir())
