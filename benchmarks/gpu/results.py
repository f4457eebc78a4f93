"""The file of results: one JSON object per line, on disk before the next job begins.

    {"step": S, "event": "start"}                                       a process for a step
    {"step": S, "event": "begin", "job": J}                             a job is running
    {"step": S, "job": J, "status": "ok", "seconds": 1.2, ...}          its result
    {"step": S, "event": "end", "status": "done", "seconds": 3.4}       no job of the step is left

``status`` of a job: "ok", "failed", "skipped", "out of memory" or "lost" (its process was ended or
died). ``status`` of a step: "done", "skipped", "cut" (time was up) or "gave up".
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.gpu.job import Row

BAD = ("failed", "lost")


def last_of_each(rows: list[Row]) -> list[Row]:
    """Return the results of jobs; the last one of a job that ran twice."""
    found = {(row["step"], row["job"]): row for row in rows if "event" not in row}
    return list(found.values())


class Results:
    """Appends to the file, and reads it.

    Args:
        path: The file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Row) -> None:
        """Write a row to the disk."""
        with self.path.open("a+b") as file:
            # A process that was killed while writing left an incomplete line.
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """Return all rows; ignores an incomplete line of a process that was killed."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_bytes().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def of_jobs(self, step: str | None = None) -> list[Row]:
        """Return the results of jobs, of a step or of all."""
        return [row for row in last_of_each(self.rows()) if step in (None, row["step"])]

    def done(self, step: str) -> set[str]:
        """Return the keys of a step's jobs that have a result."""
        return {row["job"] for row in self.of_jobs(step)}

    def library(self) -> Path | None:
        """Return the compiled extension, if the step "build" has made it."""
        found = [row["library"] for row in self.of_jobs("build") if "library" in row]
        return Path(found[-1]) if found else None

    def under_way(self, step: str) -> str | None:
        """Return the last started job of a step, if it has no result."""
        begun = [
            row["job"] for row in self.rows() if row["step"] == step and row.get("event") == "begin"
        ]
        return begun[-1] if begun and begun[-1] not in self.done(step) else None

    def status_of_steps(self) -> dict[str, str]:
        """Return how each step ended last, or "cut" for one that was begun and did not end."""
        status = {}
        for row in self.rows():
            if row.get("event") == "start":
                status[row["step"]] = "cut"
            elif row.get("event") == "end":
                status[row["step"]] = row["status"]
        return status
