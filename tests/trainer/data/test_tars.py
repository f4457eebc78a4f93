"""Shards of WebDataset: images and labels in tar files, read in any order."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import ImagesConfig
from simclr_ext.trainer.data import open_data

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    for number in range(2):
        rows = range(2 * number, 2 * number + 2)
        files = {f"some/{row:03}.png": png(PIXELS[row]) for row in rows}
        files |= {f"some/{row:03}.cls": str(row % 2).encode() for row in rows}
        files |= {"some/000.json": b"{}", "._000.png": b"litter"}
        write_shard(folder / f"pets-train-{number:06}.tar", files)
    write_shard(folder / "pets-val-000000.tar", {"x.png": png(PIXELS[5]), "x.cls": b"1\n"})
    return folder


def test_a_folder_of_shards(shards: Path) -> None:
    data = open_data(str(shards))
    assert torch.equal(data.train.images[:], torch.from_numpy(PIXELS[:4]).permute(0, 3, 1, 2))
    assert torch.equal(data.test.images[:], torch.from_numpy(PIXELS[5:]).permute(0, 3, 1, 2))
    assert (data.class_names, data.train.labels.tolist()) == (("0", "1"), [0, 1, 0, 1])
    assert data.test.labels.tolist() == [1]
    assert data.train.ids[1] == b"pets-train-000000/some/001.png"


def test_a_pattern_and_a_single_shard(shards: Path) -> None:
    images = ImagesConfig(test_share=0)
    assert len(open_data(f"{shards}/*-train-*.tar", images=images).train) == 4
    assert len(open_data(str(shards / "pets-train-000001.tar"), images=images).train) == 2


def test_images_without_labels(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"1.png": png(PIXELS[0]), "2.png": png(PIXELS[1][:3])})
    data = open_data(str(tmp_path / "a.tar"))
    assert data.train.labels.tolist() == [-1, -1]
    again = pickle.loads(pickle.dumps(data.train.images))  # as worker processes get it
    with again.open(1) as picture:
        assert torch.equal(picture.whole(), torch.from_numpy(PIXELS[1][:3]).permute(2, 0, 1))


def test_what_is_wrong_with_shards(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"no tar file" * 100)
    with pytest.raises(DataError, match=r"a\.tar: not a readable, uncompressed tar file"):
        open_data(str(path))
    write_shard(path, {"1.png": png(PIXELS[0])}, "w:gz")
    with pytest.raises(DataError, match=r"a\.tar: not a readable, uncompressed tar file"):
        open_data(str(path))
    write_shard(path, {"1.txt": b"1"})
    with pytest.raises(DataError, match=r"a\.tar: no images in it"):
        open_data(str(path))
    write_shard(path, {"1.png": b"no image", "2.png": png(PIXELS[0])})
    with pytest.raises(DataError, match=r"a\.tar:1\.png: not a readable image"):
        open_data(str(path))
