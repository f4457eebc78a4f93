"""Every form of image of docs/images.md: files made here and read, values against NumPy's."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.pixels import convert, mode_channels, upright_size
from tests.trainer.helpers import UPRIGHT, lazy_images

Pixels = NDArray[Any]
GUIDE = Path(__file__).parents[3] / "docs" / "images.md"
HEIGHT, WIDTH = 6, 9
RED = (200, 30, 7)


def noise(*channels: int, dtype: Any = np.uint8) -> Pixels:
    shape = (HEIGHT, WIDTH, *channels)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def reopened(image: Image.Image, image_format: str, **options: Any) -> Image.Image:
    """Return a file of an image, opened and not decoded."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return Image.open(buffer)


def read(image: Image.Image, **options: Any) -> Pixels:
    """Return what `convert` makes of an image, [H, W] or [H, W, 3], as integers."""
    return np.asarray(convert(image, "some.file", **options)).astype(np.int64)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: Pixels, color_type: int, extra: bytes = b"", last: bytes = b"") -> Image.Image:
    """Return a PNG file of any depth; Pillow writes not all of them."""
    height, width = pixels.shape[:2]
    big_endian = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + last
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")))


def tiff(data: bytes, bits: int, photometric: int = 1, sample_format: int = 1) -> Image.Image:
    """Return an uncompressed TIFF file of 2 x 2 gray values."""
    begin = 8 + 2 + 9 * 12 + 4
    tags = {
        256: 2, 257: 2, 258: bits, 259: 1, 262: photometric, 273: begin, 277: 1, 279: len(data),
        339: sample_format,
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHIHxx", tag, 3, 1, value) for tag, value in tags.items())
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return Image.open(io.BytesIO(header + entries + bytes(4) + data))


def over(color: Pixels, alpha: Pixels, background: Pixels | int) -> Pixels:
    """Return color on a background, rounded once."""
    weight = alpha.astype(np.int64)
    total = weight * color + (255 - weight) * background
    return (total + 127) // 255


# 16 bits and more ---------------------------------------------------------------------------------

DEEP: dict[str, Callable[[Pixels], Image.Image]] = {
    "PNG": lambda deep: png(deep, 0),
    "TIFF": lambda deep: reopened(Image.fromarray(deep), "TIFF"),
    "compressed TIFF": lambda deep: reopened(Image.fromarray(deep), "TIFF", compression="tiff_lzw"),
    "big-endian TIFF": lambda deep: reopened(
        Image.frombytes("I;16B", (WIDTH, HEIGHT), deep.byteswap().tobytes()), "TIFF"
    ),
    "PGM": lambda deep: Image.open(
        io.BytesIO(b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + deep.byteswap().tobytes())
    ),
    "JPEG 2000": lambda deep: reopened(Image.fromarray(deep), "JPEG2000"),
    "not from a file": Image.fromarray,
}


@pytest.mark.parametrize("make", DEEP.values(), ids=DEEP)
def test_16_bit_gray_is_scaled_by_its_range(make: Callable[[Pixels], Image.Image]) -> None:
    deep = noise(dtype=np.uint16)
    deep[0, :4] = 0, 128, 129, 65535
    expected = np.round(deep / 257)
    assert np.array_equal(read(make(deep)), expected)
    assert np.array_equal(read(make(deep), channels=3), np.stack([expected] * 3, axis=2))


def test_12_bit_tiff_is_scaled_by_its_range() -> None:
    values = np.array([[0, 4095], [8, 9]])
    pairs = [(a >> 4, (a & 15) << 4 | b >> 8, b & 255) for a, b in values.tolist()]
    image = tiff(bytes(np.array(pairs, np.uint8)), bits=12)
    assert image.mode == "I;16"
    assert np.array_equal(read(image), [[0, 255], [0, 1]])


def test_a_pgm_is_scaled_by_the_maximum_that_it_names() -> None:
    values = np.array([[0, 1023, 511, 512]], ">u2")
    image = Image.open(io.BytesIO(b"P5 4 1 1023\n" + values.tobytes()))
    assert np.array_equal(read(image), [[0, 255, 127, 128]])


def test_a_transparent_value_of_16_bits_is_the_background() -> None:
    deep = noise(dtype=np.uint16)
    deep[2, 3] = deep[0, 0]
    image = png(deep, 0, extra=chunk(b"tRNS", struct.pack(">H", deep[0, 0])))
    expected = np.where(deep == deep[0, 0], 9, np.round(deep / 257))
    assert np.array_equal(read(image, background=(9, 9, 9)), expected)


@pytest.mark.parametrize(
    ("color_type", "channels", "first"),
    [(2, 3, 3), (6, 4, 3), (4, 2, 1)],
    ids=["RGB", "RGBA", "LA"],
)
def test_16_bit_colors_keep_their_upper_byte(color_type: int, channels: int, first: int) -> None:
    deep = noise(channels, dtype=np.uint16)
    upper = (deep >> 8).astype(np.int64)
    alpha = upper[..., first:] if channels > first else np.full((HEIGHT, WIDTH, 1), 255)
    expected = over(upper[..., :first], alpha, 255) * np.ones(3, np.int64)
    assert np.array_equal(read(png(deep, color_type), channels=3), expected)


REFUSED = {
    "32-bit TIFF": (
        lambda: reopened(Image.fromarray(noise(dtype=np.int32)), "TIFF"),
        "mode I, 32-bit integers",
    ),
    "signed 16-bit TIFF": (
        lambda: tiff(bytes(8), bits=16, sample_format=2),
        "mode I, 32-bit integers",
    ),
    "signed 8-bit TIFF": (
        lambda: tiff(bytes(4), bits=8, sample_format=2),
        "signed 8-bit integers",
    ),
    "16-bit TIFF whose 0 is white": (
        lambda: tiff(bytes(8), bits=16, photometric=0),
        "mode I;16, 16-bit integers of TIFF",
    ),
    "float TIFF": (
        lambda: reopened(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"),
        "mode F, 32-bit floating point",
    ),
    "PFM": (
        lambda: Image.open(io.BytesIO(b"Pf 2 2\n-1.0\n" + bytes(16))),
        "mode F, 32-bit floating point",
    ),
}


@pytest.mark.parametrize(("make", "form"), REFUSED.values(), ids=REFUSED)
def test_values_without_a_certain_range_are_refused(
    make: Callable[[], Image.Image], form: str
) -> None:
    with pytest.raises(DataError) as caught:
        convert(make(), "folder/some.file")
    message = str(caught.value)
    assert message.startswith(f"folder/some.file: {form}, in which neither black nor white is")
    assert "\n" not in message
    # The expression that it recommends.
    found = re.search(r"with NumPy: (.*)", message)
    assert found is not None
    values = np.array([-1.0, 0.0, 1.5, 3.0, 4.0])
    converted = eval(found[1], {"values": values, "black": 0, "white": 3})
    assert (converted.dtype, converted.tolist()) == (np.uint8, [0, 0, 128, 255, 255])


def test_a_transparent_color_among_16_bit_colors_is_refused() -> None:
    key = chunk(b"tRNS", struct.pack(">3H", 1, 2, 60000))
    with pytest.raises(DataError, match="a transparent color among 16-bit colors"):
        read(png(noise(3, dtype=np.uint16), 2, extra=key))


# Alpha --------------------------------------------------------------------------------------------


def test_every_color_alpha_and_background_is_rounded_once() -> None:
    color, alpha = (grid.astype(np.uint8) for grid in np.meshgrid(range(256), range(256)))
    image = Image.fromarray(np.stack([color, alpha], axis=2), "LA")
    for background in (0, 1, 100, 254, 255):
        expected = over(color, alpha, background)
        assert np.array_equal(read(image, background=(background,) * 3), expected)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP", "JPEG2000", "TGA"])
@pytest.mark.parametrize("background", [(255, 255, 255), RED])
def test_alpha_is_laid_on_the_background(
    image_format: str, background: tuple[int, int, int]
) -> None:
    pixels = noise(4)
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    image = reopened(Image.fromarray(pixels), image_format, **options)
    assert image.mode == "RGBA"
    expected = over(pixels[..., :3], pixels[..., 3:], np.array(background))
    assert np.array_equal(read(image, background=background), expected)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_gray_with_alpha_stays_gray_unless_color_is_needed(image_format: str) -> None:
    pixels = noise(2)
    image = reopened(Image.fromarray(pixels), image_format)
    luma = round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2])
    gray = read(image, background=RED)
    assert np.array_equal(gray, over(pixels[..., 0], pixels[..., 1], luma))
    color = read(image, background=RED, channels=3)
    assert np.array_equal(color, over(pixels[..., :1], pixels[..., 1:], np.array(RED)))


def test_premultiplied_alpha() -> None:
    pixels = noise(2)
    image = Image.fromarray(pixels, "LA").convert("La")
    expected = over(pixels[..., 0], pixels[..., 1], 255)
    assert np.abs(read(image) - expected).max() <= 1  # Pillow rounds the products


def test_transparent_entries_of_a_palette() -> None:
    index = noise() % 4
    palette = np.array([[0, 0, 0], [10, 20, 30], [250, 0, 99], [7, 7, 7]], np.uint8)
    image = Image.fromarray(index, "L")
    image.putpalette(palette.tobytes())
    alphas = np.array([0, 255, 128, 255])
    color = palette[index].astype(np.int64)
    partly = reopened(image, "PNG", transparency=bytes(alphas.tolist()))
    assert (partly.mode, mode_channels("P")) == ("P", 3)
    expected = over(color, alphas[index][..., None], np.array(RED))
    assert np.array_equal(read(partly, background=RED), expected)
    gif = reopened(image, "GIF", transparency=2)
    expected = np.where(index[..., None] == 2, RED, color)
    assert np.array_equal(read(gif, background=RED), expected)
    assert np.array_equal(read(reopened(image, "PNG")), color)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_color_is_the_background(mode: str) -> None:
    pixels = noise(*(() if mode == "L" else (3,))) // 64
    key = tuple(pixels[0, 0].ravel().tolist())
    image = reopened(Image.fromarray(pixels), "PNG", transparency=key if mode == "RGB" else key[0])
    hit = (pixels.reshape(HEIGHT, WIDTH, -1) == key).all(axis=2)
    assert 1 < hit.sum() < hit.size or mode == "RGB"
    expected = np.where(hit if mode == "L" else hit[..., None], 77, pixels)
    assert np.array_equal(read(image, background=(77, 77, 77)), expected)


# Orientation --------------------------------------------------------------------------------------


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif


@pytest.mark.parametrize("number", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_orientation_in_exif_is_applied(tmp_path: Path, number: int, suffix: str) -> None:
    path = tmp_path / f"turned.{suffix}"
    image = Image.fromarray(noise(3))
    image.save(path, exif=oriented(number), **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as opened:
        stored = np.asarray(opened.convert("RGB"))
    # Pillow turns TIFF files itself.
    expected = UPRIGHT[number](noise(3) if suffix == "tif" else stored)
    files = lazy_images([path])
    with files.open(0) as picture:
        size = picture.size
        found = picture.whole().permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)
    assert size == found.shape[1::-1]


def test_orientations_that_mean_nothing_are_ignored() -> None:
    for exif in (oriented(0), oriented(9), b"Exif\0\0no such data"):
        image = reopened(Image.fromarray(noise(3)), "PNG", exif=exif)
        assert np.array_equal(read(image), noise(3))
    # After the pixels: the size in the header must be the one of the pixels.
    late = png(noise(3), 2, last=chunk(b"eXIf", oriented(6).tobytes()[6:]))
    assert upright_size(late) == (WIDTH, HEIGHT)
    assert np.array_equal(read(late), noise(3))


# Color spaces -------------------------------------------------------------------------------------


def from_cmyk(inks: Pixels) -> Pixels:
    *colors, key = np.moveaxis(255.0 - inks, 2, 0)
    return np.stack([color * key / 255 for color in colors], axis=2)


def test_cmyk_is_ink_on_white() -> None:
    inks = noise(4)
    image = reopened(Image.fromarray(inks, "CMYK"), "TIFF")
    assert image.mode == "CMYK"
    assert np.abs(read(image) - from_cmyk(inks)).max() <= 1


def test_inverted_cmyk_of_adobe() -> None:
    """Adobe stores 255 - ink in JPEG files, and says so in a segment of its own."""
    inks = np.broadcast_to(np.array([200, 100, 0, 40], np.uint8), (16, 16, 4))
    image = reopened(Image.fromarray(np.ascontiguousarray(inks), "CMYK"), "JPEG", quality=100)
    assert (image.mode, "adobe" in image.info) == ("CMYK", True)
    with Image.open(image.fp) as raw:  # as stored
        raw.tile = [raw.tile[0]._replace(args=("CMYK", ""))]
        stored = np.asarray(raw).astype(np.int64)
    assert np.abs(stored - (255 - inks.astype(np.int64))).max() <= 3
    assert np.abs(read(image) - from_cmyk(inks)).max() <= 3


def test_ycbcr() -> None:
    y, blue, red = (plane.astype(float) for plane in np.moveaxis(noise(3), 2, 0))
    expected = np.stack(
        [
            y + 1.402 * (red - 128),
            y - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
            y + 1.772 * (blue - 128),
        ],
        axis=2,
    ).clip(0, 255)
    assert np.abs(read(Image.fromarray(noise(3), "YCbCr")) - expected).max() <= 1.5
    flat = Image.new("RGB", (16, 16), RED)
    jpeg = reopened(flat, "JPEG", quality=100)
    assert np.abs(read(jpeg) - RED).max() <= 2


def test_lab_is_converted_by_its_definition() -> None:
    """CIE 15 and IEC 61966-2-1, with the white of D50, which is ICC's."""
    colors = [(0, 0, 0), (255, 0, 0), (128, 0, 0), (140, 22, -28)]  # L * 2.55, a, b
    lightness, a, b = (np.array([channel], float) for channel in zip(*colors, strict=True))
    lightness /= 2.55
    f = np.stack([(lightness + 16) / 116 + a / 500, (lightness + 16) / 116,
                  (lightness + 16) / 116 - b / 200], axis=2)  # fmt: skip
    relative = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    xyz = relative * [0.9642, 1.0, 0.8249]
    to_linear = [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
                 [0.0719453, -0.2289914, 1.4052427]]  # fmt: skip
    linear = (xyz @ np.transpose(to_linear)).clip(0, 1)
    expected = 255 * np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    image = reopened(
        Image.frombytes("LAB", (4, 1), np.array(colors, "i2").astype(np.uint8).tobytes()), "TIFF"
    )
    assert image.mode == "LAB"
    assert np.abs(read(image) - expected).max() <= 2


def test_hsv_of_python() -> None:
    image = Image.fromarray(
        np.array([[[0, 255, 255], [85, 255, 200], [10, 0, 90]]], np.uint8), "HSV"
    )
    assert np.abs(read(image) - [[[255, 0, 0], [0, 200, 0], [90, 90, 90]]]).max() <= 1


def test_one_bit() -> None:
    bits = noise() > 127
    for image_format in ("PNG", "TIFF", "BMP", "PPM"):
        image = reopened(Image.fromarray(bits), image_format)
        assert image.mode == "1"
        assert np.array_equal(read(image), 255 * bits)


def test_gray_files_are_gray_and_color_files_are_not_made_gray() -> None:
    gray = noise()
    for image_format in ("PNG", "TIFF", "BMP", "PPM", "JPEG2000"):
        image = reopened(Image.fromarray(gray), image_format)
        assert np.array_equal(read(image), gray)
        assert np.array_equal(read(image, channels=1), gray)
        assert np.array_equal(read(image, channels=3), np.stack([gray] * 3, axis=2))
    with pytest.raises(DataError, match=r"some.file: has color \(mode RGB\), and gray images are"):
        read(Image.fromarray(noise(3)), channels=1)


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV",
     "I;16", "I;16B", "I;16L", "I;16N"],
)  # fmt: skip
def test_the_mode_tells_the_channels(mode: str) -> None:
    image = Image.new(mode, (3, 2))
    assert convert(image, "x").mode == {1: "L", 3: "RGB"}[mode_channels(mode)]
    assert convert(image, "x", channels=3).mode == "RGB"


# Frames, and formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_or_page_is_read(image_format: str) -> None:
    flat = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in (RED, (1, 99, 200))]
    lossless = {"lossless": True} if image_format == "WEBP" else {}
    image = reopened(flat[0], image_format, save_all=True, append_images=flat[1:], **lossless)
    assert image.n_frames == 2
    assert np.array_equal(read(image), np.broadcast_to(RED, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("image_format", ["WEBP", "AVIF"])
def test_lossy_formats_are_what_pillow_reads(image_format: str) -> None:
    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    image = reopened(Image.fromarray(ramp), image_format, quality=100)
    assert np.array_equal(read(image), np.asarray(image))
    assert np.abs(read(image) - ramp).mean() < 3


def test_a_refused_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "float.tif")
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(DataError, match=rf"^{re.escape(path)}: mode F"):
        lazy_images([path], side=4)[:]
