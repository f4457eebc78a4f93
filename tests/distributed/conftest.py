from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.distributed.processes import Processes


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Any]]]:
    """Return a function that calls function(rank, group, *args) on several ranks."""
    processes = Processes(tmp_path_factory.mktemp("ranks"))
    yield processes.run
    processes.close()
