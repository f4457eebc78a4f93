"""Weights on disk: found where the libraries keep them, read safely, or one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from simclr_ext.options.errors import CheckpointError, ConfigError, MissingExtraError
from simclr_ext.trainer.model.weights import read_weights

TENSORS = {"conv1.weight": torch.arange(6.0).view(1, 1, 2, 3), "bn1.bias": torch.ones(1)}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], value) for name, value in expected.items()
    )


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_state_dict(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path)
    weights = read_weights(str(path))
    assert (weights.path, weights.statistics) == (path, None)
    assert equal(weights.tensors, TENSORS)


def test_nested_dictionaries_and_other_values(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"epoch": 3, "state_dict": TENSORS, "optimizer": {"state": {0: "sgd"}}}, path)
    expected = {f"state_dict.{name}": value for name, value in TENSORS.items()}
    assert equal(read_weights(str(path)).tensors, expected)


def test_a_checkpoint_and_a_run_folder(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    for source in (path, path.parent):
        weights = read_weights(str(source))
        assert weights.path == path
        assert weights.statistics == ((0, 0, 0), (1, 1, 1))
        assert {name.partition(".")[0] for name in weights.tensors} == {"encoder", "head"}
    contents = bytearray(path.read_bytes())
    contents[-40] ^= 1
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"init: .*checkpoint.pt: not readable .*damaged"):
        read_weights(str(path))


class Payload:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_what_is_not_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    with pytest.raises(CheckpointError, match=r"init: .*weights.pt: no such file"):
        read_weights(str(path))
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: no such file"):
        read_weights(str(tmp_path))
    path.write_bytes(b"text")
    with pytest.raises(CheckpointError, match=r"weights.pt: not readable as weights"):
        read_weights(str(path))
    torch.save(Payload(), path)
    with pytest.raises(CheckpointError, match=r"weights.pt: .* could run code; save a state dict"):
        read_weights(str(path))
    assert not Path("executed").exists()
    torch.save({"epoch": 3}, path)
    with pytest.raises(CheckpointError, match=r"must hold a state dict, .* got a dict without any"):
        read_weights(str(path))
    torch.save(torch.ones(2), path)
    with pytest.raises(CheckpointError, match="got a Tensor without any"):
        read_weights(str(path))


def test_weights_of_torchvision_are_read_where_torch_hub_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source, file = (
        "torchvision:resnet18:IMAGENET1K_V1",
        tmp_path / "checkpoints/resnet18-f37072fd.pth",
    )
    with pytest.raises(CheckpointError) as error:
        read_weights(source)
    assert str(error.value) == (
        f'init: {source} is not on disk, looked for {file}; to download it: python -c "import '
        "torchvision; torchvision.models.get_model('resnet18', weights='IMAGENET1K_V1')\""
    )
    file.parent.mkdir()
    torch.save(TENSORS, file)
    weights = read_weights(source)
    assert (weights.path, weights.statistics) == (file, IMAGENET)
    assert equal(weights.tensors, TENSORS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:resnet_19:X", "must name a model of torchvision.models, got 'resnet_19'"),
        ("torchvision:resnet18", "must be one of torchvision:resnet18:IMAGENET1K_V1, .* got 'to"),
        ("torchvision:resnet18:X", "got 'torchvision:resnet18:X'"),
        ("timm:resnet_19", "must name a model of timm with pretrained weights, got 'resnet_19'"),
    ],
)
def test_names_that_a_library_does_not_have(source: str, message: str) -> None:
    if source.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=message):
        read_weights(source)


def test_weights_of_timm_are_read_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    save_file = pytest.importorskip("safetensors.torch").save_file
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source, folder = "timm:resnet18.tv_in1k", tmp_path / "hub/models--timm--resnet18.tv_in1k"
    with pytest.raises(CheckpointError) as error:
        read_weights(source)
    assert str(error.value) == (
        f"init: {source} is not on disk, looked for {folder} and "
        f'{tmp_path}/torch/checkpoints/resnet18-f37072fd.pth; to download it: python -c "import '
        "timm; timm.create_model('resnet18.tv_in1k', pretrained=True)\""
    )
    snapshot = folder / "snapshots" / "1"
    for made in (snapshot, folder / "refs"):
        made.mkdir(parents=True)
    (folder / "refs" / "main").write_text("1")
    save_file(TENSORS, snapshot / "model.safetensors")
    weights = read_weights(source)
    assert (weights.path, weights.statistics) == (snapshot / "model.safetensors", IMAGENET)
    assert equal(weights.tensors, TENSORS)


def test_timm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(MissingExtraError, match="init: timm:resnet18 needs it: pip install timm"):
        read_weights("timm:resnet18")
