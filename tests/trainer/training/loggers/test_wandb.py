"""Weights & Biases, offline: what is in its files after a run, and after a resumed one."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simclr_ext.trainer.probes.optional import EvaluationWarning
from simclr_ext.trainer.training.result import TrainResult

wandb = pytest.importorskip("wandb", reason="wandb is not installed: make extras")
from wandb.proto import wandb_internal_pb2  # noqa: E402

Run = Callable[..., TrainResult]
_HEADER, _BLOCK = 7, 32768  # bytes of the file's and of a record's header, and of a block


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file, whose format is that of LevelDB's log."""
    data, place, parts = path.read_bytes(), _HEADER, b""
    while place < len(data):
        if (left := _BLOCK - place % _BLOCK) < _HEADER:  # padding
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += _HEADER + length
        parts += data[place - length : place]
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def parts(folder: Path) -> list[list[Any]]:
    """Return the records of each part of a run, in order."""
    wandb.teardown()  # waits until the files are complete
    return [list(records(path)) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def history(part: list[Any], name: str) -> list[tuple[int, Any]]:
    rows = [
        {".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in part
        if record.HasField("history")
    ]
    return [(row["_step"], row[name]) for row in rows if name in row]


def summary(part: list[Any]) -> dict[str, Any]:
    return {
        item.key: json.loads(item.value_json)
        for record in part
        for item in record.summary.update
        if item.key
    }


def test_a_run_with_its_configuration_measurements_and_pictures(run: Run) -> None:
    result = run("wandb", evaluate=True)
    (part,) = parts(result.folder)
    (started,) = (record.run for record in part if record.HasField("run"))
    assert started.run_id == (result.folder / "wandb.id").read_text()
    assert (started.display_name, started.project) == ("run", "simclr-ext")
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert config["model"]["width"] == 4
    assert history(part, "train/loss") == [(e.step, e.loss) for e in result.epochs]
    assert history(part, "pairs._type") == [(0, "image-file")]
    assert history(part, "tsne._type") == [(6, "image-file")]
    accuracy = result.scores["trained encoder"].linear_all.mean
    assert summary(part)["test/linear_all/trained_encoder"] == accuracy
    (exit_code,) = (record.exit.exit_code for record in part if record.HasField("exit"))
    assert exit_code == 0


def test_each_part_of_a_run_has_its_id_and_all_epochs_so_far(run_twice: Run) -> None:
    result = run_twice("wandb")
    first, second = parts(result.folder)
    for part in (first, second):
        assert history(part, "train/loss") == [(e.step, e.loss) for e in result.epochs]
    ids = {record.run.run_id for record in first + second if record.HasField("run")}
    assert ids == {(result.folder / "wandb.id").read_text()}


def test_steps_that_the_run_has_are_not_sent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Online, W&B tells at which step it continues; offline, it always begins at 0."""
    start = wandb.init

    def continued(**options: Any) -> Any:
        found = start(**options)
        found.log({"before": 1}, step=3)
        return found

    monkeypatch.setattr(wandb, "init", continued)
    (part,) = parts(run("wandb").folder)
    assert [step for step, _ in history(part, "train/loss")] == [4, 6]
    assert history(part, "pairs._type") == []


def test_a_service_that_fails_is_one_warning_and_no_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_log(*_: object, **__: object) -> None:
        raise wandb.errors.CommError("no\nanswer")

    monkeypatch.setattr(wandb.Run, "log", no_log)
    with pytest.warns(EvaluationWarning) as caught:
        result = run("wandb", "csv")
    texts = [str(w.message) for w in caught if w.category is EvaluationWarning]
    assert texts == ["what would be sent to W&B from here on is left out: CommError: no answer"]
    assert len((result.folder / "metrics.csv").read_text().splitlines()) == 1 + 3
