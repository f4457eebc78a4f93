"""The comparison of trainers: a small one, interrupted and resumed."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
SMALL = ("epochs=1", "batch_size=8", "image_size=8", "optim.warmup_epochs=0", "model.width=4")


def run(data: Path, out: Path, seeds: int) -> str:
    command = [sys.executable, "-m", "benchmarks.trainer.comparison", str(data)]
    command += ["--out", str(out), "--seeds", str(seeds)]
    command += ["--workers", "0", "--rounds", "2", "--set", *SMALL]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_trainers_are_compared_cell_by_cell(tmp_path: Path) -> None:
    pytest.importorskip("lightly")
    random = np.random.default_rng(0)
    data, out = tmp_path / "tiny.npz", tmp_path / "results.csv"
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = random.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(24) % 3
    np.savez(data, **arrays)
    run(data, out, seeds=1)
    first = out.read_text()
    table = run(data, out, seeds=2)
    assert out.read_text().startswith(first)  # not measured again
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    systems = ["raw pixels", "untrained encoder", "simclr-ext", "lightly"]
    assert [(r["system"], r["measured"], r["repetition"]) for r in rows] == [
        *((system, "images per second", turn) for turn in "12" for system in systems[2:]),
        *((system, probe, s) for s in "01" for system in systems for probe in ("linear", "k-NN")),
    ]
    speeds = [float(row["value"]) for row in rows if row["measured"] == "images per second"]
    assert min(speeds) > 0
    assert all(0 <= float(row["value"]) <= 1 for row in rows[len(speeds) :])
    lines = table.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == systems
    ratio = float(lines[-1].split()[5])
    assert ratio == pytest.approx((speeds[0] / speeds[1] + speeds[2] / speeds[3]) / 2, abs=0.01)
