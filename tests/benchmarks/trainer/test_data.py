"""The benchmark of the input path: every system has its turns, and the tables are of its rows."""

from pathlib import Path

import pytest
import torch

from benchmarks.trainer import share
from benchmarks.trainer.data import COLUMNS, SYSTEMS, Case, make_images, measure, table
from benchmarks.trainer.photographs import photograph
from simclr_ext.trainer.config import ModelConfig, TrainConfig

TINY = Case("tiny", 40, 30, files=3, side=16, batch=8, turn=2, strength=0.5, blur=0.0)


def test_a_photograph_depends_on_its_seed_alone() -> None:
    first, again, other = (photograph(40, 30, seed) for seed in (1, 1, 2))
    assert first.size == (40, 30)
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_systems_take_turns(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("lightly")
    rows = measure(TINY, make_images(TINY, tmp_path), workers, "cpu", rounds=2)
    turns = [(row["round"], row["system"]) for row in rows]
    ours, torchvision, lightly = SYSTEMS
    assert turns == [
        *(("0", system) for system in SYSTEMS),
        *(("1", system) for system in (torchvision, lightly, ours)),
    ]
    assert all(float(row["images_per_second"]) > 0 for row in rows)


def test_the_table_has_medians_and_ratios_by_round() -> None:
    speeds = {"simclr-ext": (100, 300, 210), "torchvision": (50, 100, 70), "lightly": (20, 25, 42)}
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"case": "JPEG", "workers": "1", "system": system, "round": str(turn)}
        | {"images_per_second": str(speed), "cpu_ms": str(1000 / speed)}
        for turn in range(3)
        for system, speed in ((system, speeds[system][turn]) for system in SYSTEMS)
    ]
    line = table(rows).splitlines()[-1]
    assert line == "| JPEG | 1 | 210 (4.76) | 70 (14.3) | 25 (40) | 3.0x (3.0x) | 5.0x (5.0x) |"


def test_the_share_is_what_steps_with_fixed_views_do_not_take() -> None:
    options = TrainConfig(
        batch_size=8, image_size=8, model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8)
    )
    arrays = Case("arrays", 8, 8, files=0, side=8, batch=8, turn=1, strength=0.5, blur=0.0)
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    rows = share.measure(share.Recipe("recipe", options, arrays), images, steps=3)
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    times = [("0.1", "0.09"), ("0.2", "0.15"), ("0.3", "0.24")]
    known = [
        row | {"seconds": seconds, "seconds_without_views": fixed}
        for row, (seconds, fixed) in zip(rows, times, strict=True)
    ]
    assert share.table(known).splitlines()[-1] == "| recipe | arrays | 200 | 20% |"
