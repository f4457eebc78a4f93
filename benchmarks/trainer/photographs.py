"""Photographs of nothing: noise with a photograph's spectrum, and shapes with edges.

Amplitudes of natural images fall as 1/f (D. J. Field, 1987), and a lens takes the finest away. So
the number of bytes of a JPEG file, and the work of decoding it, are those of a photograph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_SHAPES = 40
_LENS = 750  # cycles per height of the picture, at which the amplitude has fallen to 1/e


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Return an image of some size, always the same one for a seed."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # the mean is 0
    spectrum = np.exp(-((frequency * height / _LENS) ** 2)) / frequency
    planes = []
    for _ in range(3):
        white = np.fft.rfft2(random.standard_normal((height, width)))
        noise = np.fft.irfft2(white * spectrum, (height, width))
        planes.append(noise / noise.std())
    light, warm, green = planes  # colors vary less than brightness
    pixels = np.stack([light + 0.35 * warm, light - 0.2 * warm + 0.2 * green, light], axis=2)
    image = Image.fromarray((128 + 45 * pixels).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(_SHAPES):
        x, y = random.uniform(0, (width, height))
        w, h = random.uniform(0.02, 0.12, 2) * min(width, height)
        color = tuple(random.integers(0, 256, 3).tolist())
        shape = draw.ellipse if random.uniform() < 0.5 else draw.rectangle
        shape((x - w, y - h, x + w, y + h), fill=color)
    return image


def write_photographs(folder: Path, count: int, width: int, height: int) -> tuple[str, ...]:
    """Write JPEG files of quality 90, and return their paths."""
    paths = tuple(str(folder / f"{width}-{index}.jpg") for index in range(count))
    for index, path in enumerate(paths):
        photograph(width, height, seed=index).save(path, quality=90)
    return paths
