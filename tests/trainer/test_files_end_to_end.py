"""The commands on image files that do not fit into memory, compared with images in memory."""

import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.cli import main
from simclr_ext.options.errors import ConfigError, DataError
from simclr_ext.trainer.api import (
    draw_pages,
    embed_images,
    evaluate_checkpoint,
    finetune_checkpoint,
)
from simclr_ext.trainer.config import ImagesConfig
from simclr_ext.trainer.config.commands import (
    EmbedConfig,
    EvalConfig,
    FinetuneConfig,
    PagesConfig,
    SgdConfig,
)
from simclr_ext.trainer.data import LazyImages, load_data, open_data
from simclr_ext.trainer.data.split import stratified_subset
from simclr_ext.trainer.probes.optional import EvaluationWarning
from tests.trainer.helpers import write_folder

SIDE = 8
SHORT = SgdConfig(epochs=2, batch_size=8, learning_rate=0.5)
TRAINED = "trained encoder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven classes, images of many sizes."""
    root = tmp_path / "pets"
    write_folder(root, [(20, 16), (12, 30), (18, 18), (16, 11)], per_class=4, classes="abcdefg")
    (root / "test" / "b" / "1.png").unlink()  # so that the parts differ in size
    return root


@pytest.fixture
def same_in_memory(folder: Path, tmp_path: Path) -> Path:
    """The folder's images, resized and cropped, as an .npz file."""
    data = load_data(str(folder), side=SIDE)
    path = tmp_path / "same.npz"
    np.savez(
        path,
        train_images=data.train.images.permute(0, 2, 3, 1),
        train_labels=data.train.labels,
        test_images=data.test.images.permute(0, 2, 3, 1),
        test_labels=data.test.labels,
        class_names=np.array(data.class_names),
    )
    return path


@pytest.fixture
def checkpoint(
    folder: Path,
    same_in_memory: Path,
    write_checkpoint: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A model for them; from here on, they do not fit into memory."""
    path = write_checkpoint(data=str(folder), image_size=SIDE)
    monkeypatch.setattr("simclr_ext.trainer.data.dataset._MEMORY_LIMIT", 1000)
    assert isinstance(open_data(str(folder)).train.images, LazyImages)
    with pytest.raises(DataError, match="pets: 55 images of 8 x 8 take 0 GiB, more than 0"):
        load_data(str(folder), side=SIDE)
    return path


def test_eval_finds_what_it_finds_in_memory(same_in_memory: Path, checkpoint: Path) -> None:
    config = EvalConfig(
        str(checkpoint), probes=("knn", "lbfgs", "sgd"), augment=False, sgd=SHORT, workers=3
    )
    in_memory = evaluate_checkpoint(dataclasses.replace(config, data=str(same_in_memory)))
    with pytest.warns(EvaluationWarning, match="raw pixels are left out: pets: 55 images of 8 x 8"):
        found = evaluate_checkpoint(config)
    assert list(in_memory.accuracies) == ["raw pixels", "untrained encoder", TRAINED]
    assert list(found.accuracies) == ["untrained encoder", TRAINED]
    for name in found.accuracies:
        assert found.accuracies[name] == in_memory.accuracies[name]
        assert found.top5[name] == in_memory.top5[name]
        for probe, top5 in found.top5[name].items():
            assert top5.mean >= found.accuracies[name][probe].mean
    contents = json.loads((found.folder / "evaluation.json").read_text())
    assert contents["test_top5_accuracy"][TRAINED]["knn"]["mean"] == found.top5[TRAINED]["knn"].mean
    header = found.table.splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[2:-1]] == [
        "k-NN", "top-5", "linear, L-BFGS", "top-5", "linear, SGD", "top-5",
    ]  # fmt: skip


def test_no_features_are_computed_for_views(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError("computed")

    monkeypatch.setattr("simclr_ext.trainer.commands.eval.encode", fail)
    config = EvalConfig(str(checkpoint), probes=("sgd",), sgd=SHORT, baselines=False)
    one, four = (
        evaluate_checkpoint(dataclasses.replace(config, workers=workers)) for workers in (1, 4)
    )
    assert one == four
    assert list(one.accuracies[TRAINED]) == ["sgd"]
    with pytest.raises(ArithmeticError):
        evaluate_checkpoint(dataclasses.replace(config, augment=False))


def test_cached_features_are_not_used_for_changed_files(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvalConfig(str(checkpoint), baselines=False)
    first = evaluate_checkpoint(config)

    def fail(*_: object) -> None:
        raise ArithmeticError("computed again")

    monkeypatch.setattr("simclr_ext.trainer.commands.eval.encode", fail)
    assert evaluate_checkpoint(dataclasses.replace(config, workers=1)) == first
    shutil.copyfile(folder / "test" / "a" / "0.png", folder / "test" / "a" / "1.png")
    with pytest.raises(ArithmeticError):
        evaluate_checkpoint(config)


def test_finetune_does_not_depend_on_the_threads(checkpoint: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(str(checkpoint), labels=0.5, seeds=2, sgd=SHORT, threads=1)
    results = [
        finetune_checkpoint(
            dataclasses.replace(config, workers=workers, out=str(tmp_path / f"out{workers}"))
        )
        for workers in (1, 4)
    ]
    weights = [torch.load(r.folder / "classifier.pt", weights_only=True) for r in results]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    one, four = results
    assert (one.accuracy, one.top5) == (four.accuracy, four.top5)
    assert one.top5 is not None
    assert one.top5.mean >= one.accuracy.mean
    contents = json.loads((one.folder / "finetune.json").read_text())
    assert contents["test_top5_accuracy"]["draws"] == list(one.top5.draws)
    assert one.table.splitlines()[0].endswith(" top-5 |")


def test_finetune_decodes_the_labeled_images_alone(checkpoint: Path, folder: Path) -> None:
    data = open_data(str(folder))
    assert isinstance(data.train.images, LazyImages)
    labeled = stratified_subset(data.train.labels.numpy(), 0.5, seed=3)
    for row in set(range(28)) - set(labeled.tolist()):
        # The header, from which the size is read, is kept.
        path = Path(data.train.images.reader.name(int(data.train.images.rows[row])))
        path.write_bytes(path.read_bytes()[:60])
    config = FinetuneConfig(str(checkpoint), labels=0.5, seed=3, sgd=SHORT)
    assert finetune_checkpoint(config).images == 14
    with pytest.raises(DataError, match="not a readable image"):
        finetune_checkpoint(dataclasses.replace(config, labels=1.0))


def test_embed_and_pages(checkpoint: Path, same_in_memory: Path, tmp_path: Path) -> None:
    arrays = []
    for name, data in (("files", None), ("memory", str(same_in_memory))):
        out = str(tmp_path / f"embed-{name}")
        result = embed_images(EmbedConfig(str(checkpoint), data=data, out=out))
        arrays.append({file.stem: np.load(file) for file in result.files})
    files, memory = arrays
    assert files["train-embeddings"].shape[0] == 28
    for part in ("train", "test"):
        for name in (f"{part}-embeddings", f"{part}-labels"):
            assert np.array_equal(files[name], memory[name]), name
    assert files["test-ids"][0] == "test/a/0.png"
    assert memory["test-ids"][0] == "0"

    pages = []
    for name, data in (("files", None), ("memory", str(same_in_memory))):
        out = str(tmp_path / f"pages-{name}")
        drawn = draw_pages(PagesConfig(str(checkpoint), data=data, out=out, queries=3))
        page = drawn.files[0].read_text(encoding="utf-8").replace("same", "pets")
        pages.append(re.sub(r' title="[^"]*"', "", page))  # the ids
    assert pages[0].count("<img") == 3 * 9
    assert pages[0] == pages[1]


def test_transparent_images_lie_on_the_background(
    write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for part, name in itertools.product(("train", "test"), "ab"):
        (tmp_path / "icons" / part / name).mkdir(parents=True)
        for index in range(2):
            pixels = random.integers(0, 256, (10 + index, 12, 4), dtype=np.uint8)
            path = tmp_path / "icons" / part / name / f"{index}.png"
            Image.fromarray(pixels).save(path)
    icons, found = str(tmp_path / "icons"), []
    for name, background in (("black", (0, 0, 0)), ("red", (255, 0, 0))):
        images = ImagesConfig(background=background)
        checkpoint = write_checkpoint(name, data=icons, images=images)
        embed_images(EmbedConfig(str(checkpoint), out=str(tmp_path / f"{name}-h")))
        found.append(np.load(tmp_path / f"{name}-h" / "train-embeddings.npy"))
    assert not np.allclose(*found)


@pytest.mark.parametrize("background", [(0, 0, 256), (-1, 0, 0)])
def test_the_background_is_checked(background: tuple[int, int, int]) -> None:
    match = r"background must be three integers in 0\.\.255"
    with pytest.raises(ConfigError, match=match):
        ImagesConfig(background=background)


def test_a_broken_file_is_one_line(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = folder / "train" / "c" / "2.png"
    image.write_bytes(image.read_bytes()[:-40])
    for command in (["eval", "--baselines", "false"], ["embed"], ["pages"]):
        assert main([command[0], str(checkpoint), *command[1:]]) == 2
        assert f"{image}: not a readable image" in capsys.readouterr().err


def test_workers_are_checked() -> None:
    for workers in (0, -1):
        with pytest.raises(ConfigError, match=f"workers must be at least 1, got {workers}"):
            EvalConfig("x", workers=workers)
