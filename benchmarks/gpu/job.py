"""A step consists of jobs, each with its own name, result and time limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Skipped(Exception):  # noqa: N818 - a result, no error
    """Says why a job cannot be done here."""


@dataclass(frozen=True)
class Job:
    """The smallest part of a step that has a recorded result.

    Attributes:
        key: Unique within its step; a job whose key has a result is not run again.
        run: Returns the result, with a ``status`` if that is not "ok"; may raise anything.
        limit: Seconds after which the process is killed and the job counts as lost.
    """

    key: str
    run: Callable[[], Row]
    limit: float = 30.0


@dataclass(frozen=True)
class Context:
    """What every job gets.

    Attributes:
        device: "cuda" or "cpu".
        folder: For the results, logs and the output of other programs.
    """

    device: str
    folder: Path

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"


@dataclass(frozen=True)
class Step:
    """Jobs that run in one process, one after the other.

    Attributes:
        name: Of the step, in the results.
        jobs: The module whose function ``jobs(context, **options)`` yields them.
        limit: Seconds for all of them.
        options: Further arguments of that function.
        environment: Environment variables of the process.
        needs_kernels: Whether it is skipped if the kernels could not be built.
        needs_gpu: Whether it is skipped on a CPU.
    """

    name: str
    jobs: str
    limit: float
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_kernels: bool = True
    needs_gpu: bool = False


Jobs = Iterator[Job]
