"""Fixtures of the trainer's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simclr_ext.trainer.config import ModelConfig, OptimConfig, TrainConfig
from tests.distributed.processes import Processes


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def write_npz(tmp_path: Path) -> Callable[..., Path]:
    """Write a small color data set, with arrays replaced or (None) left out, as `name`.npz."""

    def write(name: str = "tiny", **changes: Any) -> Path:
        random = np.random.default_rng(0)
        arrays = {
            "train_images": random.integers(0, 256, (24, 10, 12, 3), dtype=np.uint8),
            "train_labels": np.arange(24) % 3,
            "test_images": random.integers(0, 256, (9, 10, 12, 3), dtype=np.uint8),
            "test_labels": np.arange(9) % 3,
            "class_names": np.array(["ant", "bee", "cat"]),
            **changes,
        }
        path = tmp_path / f"{name}.npz"
        np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
        return path

    return write


@pytest.fixture
def write_checkpoint(tmp_path: Path, write_npz: Callable[..., Path]) -> Callable[..., Path]:
    """Write the checkpoint of an untrained model for a small data set, in a run folder `name`."""

    def write(name: str = "run", **changes: Any) -> Path:
        from simclr_ext.trainer.data import load_data
        from simclr_ext.trainer.model.checkpoint import save_checkpoint
        from simclr_ext.trainer.model.simclr import build_model

        options = {"model": ModelConfig(width=4, blocks=(1, 1), projection_dim=8), **changes}
        if "data" not in options:
            options["data"] = str(write_npz())
        options = {"image_size": 8, "epochs": 1, "optim": OptimConfig(warmup_epochs=0), **options}
        data = load_data(options["data"])
        config = TrainConfig(**options).resolve(data.channels, *data.sides)
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "checkpoint.pt"
        save_checkpoint(path, build_model(config), config, epoch=1)
        return path

    return write


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Any]]]:
    """Return a function that calls function(rank, group, *args) on both of two ranks."""
    processes = Processes(tmp_path_factory.mktemp("two"), 2)
    yield processes.run
    processes.close()


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Any]]]:
    """Return the same of three ranks."""
    processes = Processes(tmp_path_factory.mktemp("three"), 3)
    yield processes.run
    processes.close()
