"""Runs with an own encoder and an own augmentation: trained, resumed, and used by the commands."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Generator, Tensor, nn

import simclr_ext.trainer
from simclr_ext.cli import main
from simclr_ext.options.errors import ConfigError, MissingArgumentError
from simclr_ext.trainer import (
    Callback,
    EmbedConfig,
    EvalConfig,
    ExportConfig,
    FinetuneConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    PagesConfig,
    SgdConfig,
    TrainConfig,
    draw_pages,
    embed_images,
    evaluate_checkpoint,
    export_encoder,
    finetune_checkpoint,
    load_encoder,
    resume,
    train,
)
from simclr_ext.trainer.commands.train import TrainResult
from simclr_ext.trainer.config.commands import Format
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from simclr_ext.trainer.training.state import Training

GUIDE = Path(__file__).parents[3] / "docs" / "python.md"
CONFIG = TrainConfig(
    image_size=8,
    epochs=2,
    batch_size=359,
    threads=1,
    evaluate=False,
    model=ModelConfig(projection_dim=8),
    optim=OptimConfig(warmup_epochs=0),
    monitor=MonitorConfig(knn_every=0),
)


def module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )


def noisy(images: Tensor, generator: Generator) -> Tensor:
    pixels = images / 255
    return (pixels + 0.2 * torch.rand(pixels.shape, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    out = str(tmp_path_factory.mktemp("own") / "run")
    config = dataclasses.replace(CONFIG, out=out, evaluate=True)
    return train(config, encoder=module(), augment=noisy)


def test_the_run_says_what_is_its_own(result: TrainResult) -> None:
    written = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert (written["model"]["encoder"], written["augment"]["custom"]) == ("custom", True)
    assert list(result.scores) == ["raw pixels", "initial encoder", "trained encoder"]
    kept = load_checkpoint(result.folder / "initial.pt", module()).model.encoder
    for ours, given in zip(kept.state_dict().values(), module().state_dict().values(), strict=True):
        assert torch.equal(ours, given)


def test_a_resumed_run_is_the_same(result: TrainResult, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, training: Training) -> None:
            training.stop = training.step == 3

    out, other = str(tmp_path / "run"), module()
    for weight in other.parameters():
        nn.init.zeros_(weight)  # its weights do not matter
    config = dataclasses.replace(CONFIG, out=out)
    train(config, encoder=module(), augment=noisy, callbacks=[Stop()])
    again = resume(out, encoder=other, augment=noisy)
    theirs = result.model.state_dict()
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_resume_needs_the_arguments(result: TrainResult) -> None:
    with pytest.raises(MissingArgumentError, match="as the argument `encoder`"):
        resume(result.folder, augment=noisy)
    with pytest.raises(MissingArgumentError, match="as the argument `augment`"):
        resume(result.folder, encoder=module())
    assert not (result.folder / "checkpoint-damaged.pt").exists()


@pytest.mark.parametrize("command", ["eval", "finetune", "embed", "export", "pages"])
def test_the_command_line_says_what_it_cannot_do(
    command: str, result: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(result.folder)]) == 2
    assert capsys.readouterr().err == (
        f"simclr-ext: error: {result.folder}/checkpoint.pt: the encoder is a module of your own: "
        "pass it from Python, as the argument `encoder`\n"
    )


def test_the_command_line_has_no_own_modules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    options = {"--model.encoder=custom": "encoder", "--augment.custom=true": "augment"}
    for option, name in options.items():
        assert main(["train", "--data", "digits", "--out", out, option]) == 2
        assert f"from Python, as the argument `{name}`" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="init must be null for an own encoder"):
        train(dataclasses.replace(CONFIG, init="a.pt"), encoder=module())
    assert not Path(out).exists()


def test_the_example_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "each_image" in block)

    def train_briefly(config: TrainConfig, **own: Any) -> TrainResult:
        assert config.epochs == 50
        return train(dataclasses.replace(config, epochs=1, evaluate=False), **own)

    def resume_briefly(folder: str, epochs: int, **own: Any) -> TrainResult:
        assert epochs == 60
        return resume(folder, epochs=2, **own)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simclr_ext.trainer, "train", train_briefly)
    monkeypatch.setattr(simclr_ext.trainer, "resume", resume_briefly)
    exec(compile(example, str(GUIDE), "exec"), {"__name__": "example"})
    assert (tmp_path / "runs/own/eval-digits/evaluation.json").exists()


def test_commands_from_python(result: TrainResult) -> None:
    pytest.importorskip("safetensors")
    folder, own, sgd = str(result.folder), module(), SgdConfig(epochs=1)
    found = evaluate_checkpoint(EvalConfig(folder, probes=("knn",)), encoder=own)
    assert list(found.accuracies) == ["raw pixels", "initial encoder", "trained encoder"]
    assert not (result.folder / "features").exists()
    tuned = finetune_checkpoint(FinetuneConfig(folder, labels=0.05, sgd=sgd), encoder=own)
    assert 0 <= tuned.accuracy.mean <= 1
    embedded = embed_images(EmbedConfig(folder), encoder=own)
    assert np.load(embedded.files[0]).shape == (1437, result.model.encoder.dim)
    assert len(draw_pages(PagesConfig(folder), encoder=own).files) == 3
    formats: tuple[Format, ...] = ("state-dict", "pt2", "hub")
    exported = export_encoder(ExportConfig(folder, formats=formats), encoder=own)
    loaded = load_encoder(exported.files["hub"], encoder=own)
    with pytest.raises(MissingArgumentError, match="as the argument `encoder`"):
        load_encoder(exported.files["hub"])
    own.load_state_dict(torch.load(exported.files["state-dict"], weights_only=True))
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(own.eval()(images), result.model.encoder(images))
    torch.testing.assert_close(loaded(images), result.model.encoder(images))
