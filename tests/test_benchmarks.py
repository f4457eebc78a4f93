"""The comparison of trainers: a small one, cut off and gone on with."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "trainer.py"
SMALL = ("epochs=1", "batch_size=8", "image_size=8", "optim.warmup_epochs=0", "model.width=4")


def run(data: Path, out: Path, seeds: int) -> str:
    command = [sys.executable, str(SCRIPT), str(data), "--out", str(out), "--seeds", str(seeds)]
    command += ["--workers", "0", "--set", *SMALL]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


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
    assert [(row["system"], row["seed"]) for row in rows] == [
        (system, seed) for seed in "01" for system in systems
    ]
    for row in rows:
        trained = row["system"] in ("simclr-ext", "lightly")
        assert (row["images_per_second"] != "") == trained
        assert 0 <= float(row["linear"]) <= 1
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == systems
