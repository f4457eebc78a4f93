"""The pixels of any image that Pillow opens: 8 bits, gray or RGB, opaque and upright.

What is certain is converted: 16 bits are scaled to 8, transparent images are laid on a background,
the orientation in EXIF is applied. The rest is refused, with the file's name and the way out.
"""

from __future__ import annotations

import functools
import struct

import numpy as np
from PIL import ExifTags, Image, ImageCms

from simclr_ext.options.errors import DataError

Color = tuple[int, int, int]  # red, green, blue, in 0..255
WHITE: Color = (255, 255, 255)

_GRAY = ("1", "L", "LA", "La", "I", "F")  # and all "I;16..."
_NO_RANGE = ("FITS", "MCIDAS")  # formats whose 16-bit values are measurements, at any scale
_TIFF_PHOTOMETRIC, _TIFF_BITS, _TIFF_SAMPLE_FORMAT = 262, 258, 339
_TURNS = {  # what makes an image upright, by its orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def convert(
    image: Image.Image, name: str, *, channels: int | None = None, background: Color = WHITE
) -> Image.Image:
    """Return the pixels of an image, in mode L or RGB; docs/images.md has the table of all forms.

    The result is the image itself where nothing has to be changed.

    Args:
        image: Opened by Pillow, decoded or not; of several frames or pages, the current one.
        name: Its name in errors, such as its path.
        channels: 1: gray; 3: color, gray images are repeated; None: `mode_channels` of its mode.
        background: Color behind transparent pixels; behind gray ones, its luma.

    Raises:
        DataError: The range of its values is not certain, or it has color and `channels` is 1.

    Example:
        >>> half = Image.new("LA", (1, 1), (0, 128))
        >>> convert(half, "half", channels=3, background=(255, 0, 0)).getpixel((0, 0))
        (127, 0, 0)
    """
    turn = upright(image)
    image = opaque(image, name, channels=channels, background=background)
    return image if turn is None else image.transpose(turn)


def opaque(
    image: Image.Image, name: str, *, channels: int | None = None, background: Color = WHITE
) -> Image.Image:
    """Return the same as `convert`, as it lies in the file: not turned upright."""
    own = mode_channels(image.mode)
    if own > (channels or own):
        raise DataError(f"{name}: has color (mode {image.mode}), and gray images are needed")
    mode = "L" if (channels or own) == 1 else "RGB"
    return _flat(_eight_bits(image, name), mode, background)


def mode_channels(mode: str) -> int:
    """Return C of the images of a mode of Pillow: 1 (gray) or 3 (color); palettes have color."""
    return 1 if mode in _GRAY or mode.startswith("I;16") else 3


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of the result of `convert`; the image need not be decoded."""
    width, height = image.size
    return (height, width) if upright(image) in _SIDEWAYS else (width, height)


def upright(image: Image.Image) -> Image.Transpose | None:
    """Return what makes an image upright, by its EXIF or XMP data; None: nothing."""
    if image.format == "TIFF":
        return None  # Pillow applies it, to the size as well
    try:
        # Of the base class: that of PNG files decodes them, to look behind the pixels as well.
        exif = Image.Image.getexif(image)
    except (struct.error, KeyError, SyntaxError, TypeError, ValueError):
        return None  # as Pillow does when it reads the resolution: broken EXIF data say nothing
    return _TURNS.get(exif.get(ExifTags.Base.Orientation, 1))


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Return an image whose values are bytes.

    Raises:
        DataError: It is not certain which values are black and white.
    """
    tags = getattr(image, "tag_v2", {})  # of TIFF files
    if tags.get(_TIFF_SAMPLE_FORMAT, (1,))[0] == 2 and image.mode == "L":
        raise _no_range(name, "signed 8-bit integers")
    if image.mode == "F":
        raise _no_range(name, "mode F, 32-bit floating point")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        raise DataError(
            f"{name}: a transparent color among 16-bit colors, which Pillow reduces to 8 bits: "
            "save it with an alpha channel"
        )
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # whose values are 16-bit
        raise _no_range(name, "mode I, 32-bit integers")
    if image.format in _NO_RANGE or tags.get(_TIFF_PHOTOMETRIC) == 0:
        raise _no_range(name, f"mode {image.mode}, 16-bit integers of {image.format}")
    bits = tags.get(_TIFF_BITS, (16,))[0]
    values = np.asarray(image).astype(np.uint32)
    white = 2**bits - 1
    scaled = Image.fromarray(((255 * values + white // 2) // white).astype(np.uint8))
    if key is not None:
        scaled.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return scaled


def _no_range(name: str, form: str) -> DataError:
    return DataError(
        f"{name}: {form}, in which neither black nor white is certain; convert it to 8 bits first, "
        "with NumPy: (255 * (values - black) / (white - black)).round().clip(0, 255)"
        ".astype('uint8')"
    )


def _flat(image: Image.Image, mode: str, background: Color) -> Image.Image:
    """Return an image of bytes in mode L or RGB, laid on the background where transparent."""
    if image.mode == "LAB":
        return _lab_to_rgb().apply(image)
    if not image.has_transparency_data:
        image.load()  # so that the file may be closed
        return image if image.mode == mode else image.convert(mode)
    image = image.convert("LA" if image.mode == "La" else "RGBA")
    behind = Image.new("RGB", image.size, background).convert(mode)
    # a / 255 color + (1 - a / 255) background, rounded once.
    behind.paste(image.convert(mode), mask=image.getchannel("A"))
    return behind


@functools.cache
def _lab_to_rgb() -> ImageCms.ImageCmsTransform:
    lab, srgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
