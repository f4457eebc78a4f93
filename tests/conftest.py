from __future__ import annotations

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the trainer's commands, the longest: none is left alone with one at the end."""
    items.sort(key=lambda item: "tests/trainer/commands/" not in item.nodeid)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
