"""Names of files, folders and classes may be anything that a disk takes, and harm nothing."""

import csv
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_ext.studies import StudyConfig, run_study
from simclr_ext.studies.engine import run as run_module
from simclr_ext.trainer import (
    EmbedConfig,
    ModelConfig,
    MonitorConfig,
    NeighborsConfig,
    OptimConfig,
    PagesConfig,
    TrainConfig,
    draw_pages,
    embed_images,
    find_neighbors,
    resume,
    train,
)
from simclr_ext.trainer.commands.model_card import model_card
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.optional import EvaluationWarning
from simclr_ext.trainer.training.result import TrainResult

HOSTILE = "<img src=x onerror=alert(1)>"
LATIN = os.fsdecode(b"caf\xe9")  # not UTF-8
CLASSES = ("ü 漢字 🐈", "$\\frac$ a$", "_hidden", HOSTILE, "two\nlines", "\x1b[2J", LATIN)
FOLDER = "<b>photos</b> [1] $x$ ünï `code` | 50%"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run whose data, classes, files and folder have such names."""
    root, random = tmp_path_factory.mktemp("names") / "spaces and ünicode", np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        folder = root / FOLDER / name
        folder.mkdir(parents=True)
        for row in range(10):
            pixels = random.integers(0, 200, (8, 8), dtype=np.uint8) + 8 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name} {row}.png")
    config = TrainConfig(
        data=str(root / FOLDER),
        out=str(root / f"runs {HOSTILE[:-1]}" / "ü"),
        image_size=8,
        epochs=2,
        batch_size=16,
        threads=1,
        model=ModelConfig(width=4, blocks=(1,), projection_dim=8),
        optim=OptimConfig(warmup_epochs=0),
        monitor=MonitorConfig(loggers=("csv", "jsonl", "tensorboard")),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", EvaluationWarning)  # nothing is left out
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        train(config)
        return resume(config.out, epochs=3)  # type: ignore[arg-type]


def test_a_run_has_all_files_and_all_names(run: TrainResult) -> None:
    with (run.folder / "images.csv").open(
        encoding="utf-8", errors="surrogateescape", newline=""
    ) as f:
        rows = list(csv.DictReader(f))
    assert {row["class"] for row in rows} == set(CLASSES)
    assert f"{LATIN}/{LATIN} 3.png" in {row["id"] for row in rows}
    assert len(run.epochs) == 3
    assert {"tsne.png", "evaluation.json", "metrics.csv"} <= {p.name for p in run.folder.iterdir()}


def test_pages_show_names_as_text(run: TrainResult) -> None:
    checkpoint = str(run.folder)
    query = run.folder / f"{HOSTILE.replace('/', '')}.png"
    Image.new("L", (8, 8)).save(query)
    pages = draw_pages(PagesConfig(checkpoint)).files
    pages += find_neighbors(NeighborsConfig(checkpoint, queries=str(query))).files
    texts = [path.read_text(errors="replace") for path in pages if path.suffix == ".html"]
    assert len(texts) == 3
    for text in texts:
        assert HOSTILE not in text
        assert "<b>photos" not in text
        assert "default-src 'none'" in text
    query.unlink()


def test_representations_have_all_ids(run: TrainResult) -> None:
    files = {path.name: path for path in embed_images(EmbedConfig(str(run.folder))).files}
    assert f"{LATIN}/{LATIN} 3.png" in np.load(files["images-ids.npy"]).tolist()


def test_the_terminal_shows_no_commands_of_a_name(run: TrainResult) -> None:
    (Path(run.config.data) / "\x1b[2J" / f"\x1b[31m{LATIN}.png").write_bytes(b"no image")
    command = [sys.executable, "-m", "simclr_ext", "check", run.config.data]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 1, done.stderr
    assert b"\\x1b[31mcaf\\udce9.png" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr
    (Path(run.config.data) / "\x1b[2J" / f"\x1b[31m{LATIN}.png").unlink()


def test_reports_show_names_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "sweep", lambda *_: None)
    data = tmp_path / f"{FOLDER.replace('/', '')}.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(data, train_images=images, train_labels=np.arange(40) % 2)
    config = StudyConfig("projection-head", data=str(data), out=str(tmp_path / "out"), threads=1)
    report = (run_study(config).folder / "report.md").read_text()
    assert "<b>" not in report
    assert "&lt;b&gt;photos&lt;b&gt; &#91;1&#93; $x$ ünï &#96;code&#96; &#124; 50%" in report


def test_the_model_card_shows_names_as_text(tmp_path: Path) -> None:
    name = f"{HOSTILE}\n```\n# Not a heading"
    model = ModelConfig(width=4, blocks=(1,), projection_dim=8)
    config = TrainConfig(data=f"/data/{name}", model=model).resolve(1, 8, 8)
    save_checkpoint(tmp_path / "checkpoint.pt", build_model(config), config, 1)
    card = model_card(load_checkpoint(tmp_path / "checkpoint.pt"), tmp_path / "checkpoint.pt")
    before, code = card.split("```yaml\n")
    assert HOSTILE not in before
    assert "&lt;img src=x onerror=alert(1)&gt;" in before
    assert code.count("\n```") == 1  # the end of the block
    assert "\n# Not" not in card
