"""The export command: other programs can load its files, and wrong files are removed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from simclr_ext.cli import main
from simclr_ext.options import extras
from simclr_ext.options.errors import ConfigError, ExportError, MissingExtraError
from simclr_ext.trainer.api import export_encoder
from simclr_ext.trainer.commands import export
from simclr_ext.trainer.config import ModelConfig
from simclr_ext.trainer.config.commands import ExportConfig
from simclr_ext.trainer.model.checkpoint import Checkpoint, load_checkpoint


def test_every_format_computes_what_the_encoder_does(
    write_checkpoint: Callable[..., Path],
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    safetensors = pytest.importorskip("safetensors.torch")
    path = write_checkpoint()
    formats = ("state-dict", "safetensors", "pt2", "onnx")
    result = export_encoder(ExportConfig(str(path), formats=formats))
    assert set(result.files) == set(result.errors) == set(formats)
    encoder = load_checkpoint(path).model.encoder
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = encoder(images)
    weights = torch.load(result.files["state-dict"], weights_only=True)
    kept = safetensors.load_file(result.files["safetensors"])
    for name, value in encoder.state_dict().items():
        assert torch.equal(weights[name], value)
        assert torch.equal(kept[name], value)
    graph = torch.export.load(result.files["pt2"]).module()
    assert (graph(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    session = onnxruntime.InferenceSession(result.files["onnx"])
    (found,) = session.run(None, {"images": images.numpy()})
    assert (torch.from_numpy(found) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("encoder", ["resnet18", "torchvision:resnet18"])
def test_weights_of_a_resnet_are_torchvisions(
    encoder: str, write_checkpoint: Callable[..., Path]
) -> None:
    model = ModelConfig(encoder=encoder, stem="imagenet", projection_dim=8)
    path = write_checkpoint(model=model, image_size=32)
    result = export_encoder(ExportConfig(str(path)))
    assert result.loads_into == "torchvision.models.resnet18"
    network = torchvision.models.resnet18()
    weights = torch.load(result.files["state-dict"], weights_only=True)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    network.fc = nn.Identity()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_checkpoint(path).model.encoder(images)
        error = (network.eval()(images) - expected).abs().max()
    assert error < 1e-5 * expected.abs().max()


def test_a_wrong_file_is_an_error_and_is_removed(
    write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(path: Path, checkpoint: Checkpoint, images: Tensor) -> Tensor:
        path.touch()
        with torch.no_grad():
            return 1.001 * checkpoint.model.encoder(images)

    monkeypatch.setitem(export._WRITERS, "pt2", wrong)
    path = write_checkpoint()
    with pytest.raises(ExportError, match=r"pt2: the written file deviates by 1\.0e-03"):
        export_encoder(ExportConfig(str(path), formats=("pt2",)))
    assert not list((path.parent / "export").iterdir())


def test_missing_packages_and_wrong_options(
    write_checkpoint: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda n: None if n == "onnxscript" else find(n))
    path = write_checkpoint()
    with pytest.raises(MissingExtraError, match=r"pip install 'simclr-ext\[onnx\]'"):
        export_encoder(ExportConfig(str(path), formats=("onnx",)))
    with pytest.raises(ConfigError, match="formats must be one or more"):
        ExportConfig(str(path), formats=())
    assert main(["export", str(path), "--formats", "[state-dict]"]) == 0
    assert "this package's encoder" in capsys.readouterr().out
