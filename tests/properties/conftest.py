"""How many inputs hypothesis draws: HYPOTHESIS_PROFILE is "ci", by default, or "many"."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from simclr_ext.backends import ops
from simclr_ext.backends.tiled import schedule

# Nothing is left in the checkout: a failure prints what reproduces it.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "simclr-ext-hypothesis")
_SETTINGS = settings(
    database=None,
    deadline=None,  # no test depends on the speed of the machine, nor does a health check
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("ci", _SETTINGS, max_examples=8, derandomize=True)
settings.register_profile("many", _SETTINGS, max_examples=140)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="module", autouse=True)
def _small_tiles() -> Iterator[None]:
    """Make many and ragged tiles of these few rows."""
    ops.register()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "_CPU_SIDE", 20)
        yield
