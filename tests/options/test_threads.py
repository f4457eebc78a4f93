"""PyTorch's threads are set within a block, and restored however it ends."""

from pathlib import Path

import pytest
import torch

from simclr_ext import cli
from simclr_ext.options import threads as module
from simclr_ext.options.errors import ConfigError
from simclr_ext.options.threads import threads
from simclr_ext.trainer import TrainConfig


@pytest.mark.parametrize("count", [None, 1, 3])
def test_threads_are_put_back(count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_processors", lambda: 3)
    before = torch.get_num_threads()
    expected = count or before

    def fail() -> None:
        with threads(count) as found:
            assert torch.get_num_threads() == found == expected
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before


def test_more_threads_than_processors_are_refused_unless_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_processors", lambda: 2)
    with pytest.raises(ConfigError) as error, threads(3):
        pass
    assert str(error.value) == (
        "threads must be null or at most 2, this machine's processors, got 3; "
        "SIMCLR_EXT_FORCE_THREADS=1 allows more"
    )
    monkeypatch.setenv("SIMCLR_EXT_FORCE_THREADS", "1")
    with threads(3) as found:
        assert found == 3


def test_the_configuration_of_a_larger_machine_can_be_read() -> None:
    assert TrainConfig(threads=1000).threads == 1000


@pytest.mark.parametrize("command", ["train --data digits", "study tsne", "bench"])
def test_a_thousand_threads_are_refused_before_any_work(
    command: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command.split(), "--threads", "1000"]) == 2
    assert "threads must be null or at most" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
