"""The paper's studies (SimCLR, arXiv 2002.05709), each as one command that draws its picture.

>>> from simclr_ext.studies import StudyConfig, run_study
>>> result = run_study(StudyConfig("projection-head", scale="tiny"))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simclr_ext.options.extras import require_trainer
from simclr_ext.studies.config import STUDIES, StudyConfig

if TYPE_CHECKING:
    from simclr_ext.studies.engine.run import StudyResult

__all__ = ["STUDIES", "StudyConfig", "run_study"]


def run_study(config: StudyConfig) -> StudyResult:
    """Run the unfinished cells of a study, and write its table, its picture and its report.

    Args:
        config: Study, data set and scale.

    Returns:
        The folder, the findings, and the cells that failed.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        DataError: The data set cannot be read, or does not fit into memory.
        DeviceError: `config.device` cannot be used.
        BackendUnavailableError: The loss cannot be computed on this device.
        RunFolderError: The folder is not this study's, is damaged, or cannot be created.
        TrainingInterrupted: A signal ended the study; the same command resumes it.
    """
    require_trainer()
    from simclr_ext.studies.engine.run import run

    return run(config)
