"""Data that somebody made to do harm are refused in a sentence, before they take memory or time."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import memory, open_data
from simclr_ext.trainer.data.files import find_images, to_array
from tests.trainer.helpers import lazy_images


class Payload:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (Path("executed"),)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 20 MiB."""
    monkeypatch.setattr(memory, "memory", lambda: 20 * 2**20)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_pickles_in_arrays_are_not_executed(name: str) -> None:
    array = np.array([Payload()], dtype=object)
    if name == "a.npz":
        np.savez(name, train_images=array)
    else:
        np.save(name, array)
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        open_data(name)
    Path(name).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match="not a readable"):
        open_data(name)
    assert not Path("executed").exists()


def test_a_compressed_array_of_more_than_the_memory(small_memory: None) -> None:
    np.savez_compressed("a.npz", train_images=np.zeros((11, 2**10, 2**10), np.uint8))
    assert Path("a.npz").stat().st_size < 20_000
    with pytest.raises(DataError, match=r"a\.npz: its contents take 0\.0 GiB, more than"):
        open_data("a.npz")


def npy(shape: str, dtype: str = "|u1") -> bytes:
    """The header of an array, which claims any shape."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(64)


@pytest.mark.parametrize(
    "contents",
    [
        npy("(1000000000000, 28, 28)"),
        npy("(9223372036854775807, 9223372036854775807)"),
        npy("(-4, 4, 4)"),
        npy("(4, 4, " + "(" * 900 + ")" * 900 + ")"),
        npy("(4, 4, 4)", "|O"),
        npy("(4, 4, 4)", "nonsense"),
    ],
    ids=["huge", "overflow", "negative", "brackets", "objects", "dtype"],
)
def test_headers_of_arrays_that_lie(contents: bytes) -> None:
    Path("a.npy").write_bytes(contents)
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("train_images.npy", contents)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=r"not a readable|its contents take"):
            open_data(name)


def test_what_is_no_array_in_an_archive() -> None:
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("train_images", b"text")
    with pytest.raises(DataError, match=r"a\.npz: train_images is not an array"):
        open_data("a.npz")


def write_idx(images: bytes, suffix: str) -> None:
    folder = Path("idx")
    folder.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(images)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_that_claim_or_hold_more_than_the_memory(suffix: str, small_memory: None) -> None:
    pack: Callable[[bytes], bytes] = gzip.compress if suffix else bytes
    write_idx(pack(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)), suffix)
    with pytest.raises(DataError, match=r"ubyte(\.gz)?: its contents take .* half of this machine"):
        open_data("idx")
    write_idx(pack(struct.pack(">HBB3I", 0, 8, 3, 1, 2, 2) + bytes(64 * 2**20)), suffix)
    with pytest.raises(DataError, match=r"more than 4 bytes for the shape \[1, 2, 2\]"):
        open_data("idx")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


BOMBS = {
    "dimensions": png(2**31 - 1, 2**31 - 1),
    "pixels": png(20_000, 20_000, chunk(b"IDAT", zlib.compress(bytes(2**20)))),
    "text": png(2, 2, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70 * 2**20)))),
    "profile": png(2, 2, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(70 * 2**20)))),
}


@pytest.mark.parametrize("contents", BOMBS.values(), ids=BOMBS)
def test_decompression_bombs_in_pictures(contents: bytes) -> None:
    assert len(contents) < 200_000
    Path("a.png").write_bytes(contents)
    with (
        pytest.raises(DataError, match=r"a\.png: not a readable image"),
        lazy_images(["a.png"]).open(0) as picture,
    ):
        picture.whole()


def test_no_program_is_started_for_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow reads EPS by Ghostscript, whatever the file is called."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(subprocess, "check_call", refuse)
    Path("a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with Image.open("a.png") as image:
        assert image.format == "EPS"  # so it would be
    with (
        pytest.raises(DataError, match=r"a\.png: not a readable image"),
        lazy_images(["a.png"]).open(0) as picture,
    ):
        picture.whole()


def test_pipes_and_devices_are_not_opened() -> None:
    folder = Path("photos")
    folder.mkdir()
    os.mkfifo(folder / "a.png")
    with pytest.raises(DataError, match=r"a\.png: not a readable image \(not a regular file\)"):
        open_data("photos")
    (folder / "a.png").unlink()
    (folder / "b.png").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="not a regular file"):
        open_data("photos")
    Path("list.csv").write_text("path\n/dev/zero\n")
    with pytest.raises(DataError, match="/dev/zero: no such file"):
        open_data("list.csv")


def test_links_that_lead_to_a_folder_by_too_many_paths() -> None:
    """Two links at each of thirty levels are a thousand million paths, without a loop."""
    for level in range(30):
        Path(f"maze/{level}").mkdir(parents=True)
        for name in "ab":
            Path(f"maze/{level}/{name}").symlink_to(f"../{level + 1}")
    Path("maze/30").mkdir()
    Image.new("L", (4, 4)).save("maze/30/a.png")
    for data in ("maze/0", "maze/0/**/*.png"):
        with pytest.raises(DataError, match="links lead to it by more than 1,000 paths"):
            open_data(data)


def test_links_to_a_folder_that_contains_them() -> None:
    Path("loop").mkdir()
    for name in "ab":
        Path(f"loop/{name}").symlink_to(".")
    for data in ("loop", "loop/**/*.png"):
        with pytest.raises(DataError, match="a link to a folder that contains it"):
            open_data(data)


def test_folders_in_each_other_without_end() -> None:
    Path("/".join(["deep", *"x" * 300])).mkdir(parents=True)
    with pytest.raises(DataError, match="more than 200 folders in each other"):
        find_images(Path("deep"))


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, contents in members:
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return buffer.getvalue()


def with_size(archive: bytes, size: int) -> bytes:
    """Return an archive whose first member claims a size, with the checksum of that header."""
    header = bytearray(archive[:512])
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + archive[512:]


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 7).save(buffer, "PNG")
    return buffer.getvalue()


def test_names_in_archives_lead_nowhere() -> None:
    """Nothing is unpacked: what is outside stays as it is, and names are names."""
    outside = Path("outside.png")
    outside.write_bytes(b"mine")
    Path("in").mkdir()
    names = ("../outside.png", f"{Path.cwd()}/outside.png")
    Path("in/a.tar").write_bytes(tar(*((tarfile.TarInfo(name), picture()) for name in names)))
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open("in/a.tar", "a") as archive:
        archive.addfile(link)
    data = open_data("in/a.tar")
    assert len(data.train) == 2  # the link is none
    assert int(data.train.images[0, 0, 0, 0]) == 7
    assert outside.read_bytes() == b"mine"
    assert sorted(map(str, Path().rglob("*"))) == ["in", "in/a.tar", "outside.png"]


@pytest.mark.parametrize("size", [-512, -1024, 2**40, 2**80])
def test_sizes_in_archives_that_lie(size: int) -> None:
    """At a negative one Python's reader begins again, for ever, before 3.11.14."""
    whole = tar((tarfile.TarInfo("a.png"), picture()), (tarfile.TarInfo("b.png"), picture()))
    Path("a.tar").write_bytes(with_size(whole, size))
    with pytest.raises(DataError, match=r"a\.tar: not a readable, uncompressed tar file"):
        open_data("a.tar")


def test_sparse_members_are_not_read() -> None:
    """A kilobyte in the archive may stand for a terabyte of zeros."""
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    Path("a.tar").write_bytes(buffer.getvalue())
    with tarfile.open("a.tar") as archive:
        assert archive.getmembers()[0].size == 2**40  # so it claims
    with pytest.raises(DataError, match=r"a\.tar: no images in it"):
        open_data("a.tar")


def test_a_shard_that_changes_is_not_read_at_old_places() -> None:
    path = Path("a.tar")
    path.write_bytes(
        tar((tarfile.TarInfo("a.png"), picture()), (tarfile.TarInfo("b.png"), picture()))
    )
    data = open_data("a.tar", load=False)
    path.write_bytes(tar((tarfile.TarInfo("other.png"), picture())))
    with pytest.raises(DataError, match=r"a\.tar: has changed since it was searched"):
        data.at(8).train.images[:1]


def test_one_long_name_does_not_fill_the_memory() -> None:
    with pytest.raises(DataError, match=r"a name of 100,000 bytes, at most 4,096: xxx"):
        to_array([b"a", b"x" * 100_000])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\n" + "x" * 200_000, "field larger than field limit"),
        ("path\n" + "x" * 5_000, "a name of 5,000 bytes"),
        ("path\na\0b", "a zero byte in it"),
        ("path,label\na.png," + "x" * 5_000, "a name of 5,000 bytes"),
    ],
    ids=["field", "path", "zero", "label"],
)
def test_lists_with_fields_that_are_no_names(text: str, message: str) -> None:
    Path("a.png").write_bytes(picture())
    Path("list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_data("list.csv")


def test_names_in_a_list_that_look_like_patterns() -> None:
    folder = Path("my [own] photos")
    folder.mkdir()
    for name in ("a[1].png", "b.png"):
        (folder / name).write_bytes(picture())
    for text, found in (("a[1].png", 1), ("*.png", 2), ("[b].png", 1), ("**/*.png", 2)):
        (folder / "list.txt").write_text(text)
        assert len(open_data(str(folder / "list.txt")).train) == found


def test_labels_that_are_no_numbers_of_classes() -> None:
    images = np.zeros((3, 4, 4), np.uint8)
    for labels in ([2**64 - 1, 0, 1], [2**63, 0, 1]):
        np.savez("a.npz", train_images=images, train_labels=np.array(labels, np.uint64))
        assert open_data("a.npz").train.labels.max() == 2  # the classes are the values
    np.savez(
        "a.npz", train_images=images, train_labels=np.array([0, 1, 3]), class_names=["a", "b", "c"]
    )
    with pytest.raises(DataError, match="3 class_names for labels up to 3"):
        open_data("a.npz")
