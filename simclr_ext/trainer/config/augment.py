"""The options of the augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from simclr_ext.options.checks import check, check_probability, check_range, check_types


@dataclass(frozen=True)
class AugmentConfig:
    """The random transformations that turn an image into a view (appendix A).

    Attributes:
        crop_probability: Probability of a random crop; the other images are only resized.
        crop_area: Minimum and maximum area of the crop as a fraction of the image's.
        crop_ratio: Minimum and maximum ratio of the crop's width to its height.
        flip_probability: Probability of a horizontal flip; null: 0.5, and 0 for gray images (a
            mirrored digit is not a digit).
        jitter_probability: Probability of the color jitter.
        jitter_strength: s: brightness, contrast and saturation vary by 0.8 s, hue by 0.2 s; images
            that have not 3 channels vary in brightness and contrast only. The paper: 1 for
            ImageNet, 0.5 for CIFAR-10.
        grayscale_probability: Probability that a color image is converted to gray.
        blur_probability: Probability of a Gaussian blur. The paper: 0.5 for ImageNet, 0 for
            CIFAR-10.
        blur_sigma: Minimum and maximum standard deviation of the blur in pixels.
        custom: Whether the views are made by the function that `train` was given, from Python,
            instead; of the other options, those of the crop then apply to image files only.
    """

    crop_probability: float = 1.0
    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float | None = None
    jitter_probability: float = 0.8
    jitter_strength: float = 0.5
    grayscale_probability: float = 0.2
    blur_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    custom: bool = False

    def __post_init__(self) -> None:
        check_types(self, "augment.")
        check_probability("augment.crop_probability", self.crop_probability)
        check_range("augment.crop_area", self.crop_area, limit=1)
        check_range("augment.crop_ratio", self.crop_ratio)
        if self.flip_probability is not None:
            check_probability("augment.flip_probability", self.flip_probability)
        check_probability("augment.jitter_probability", self.jitter_probability)
        # 0.8 s <= 1 keeps the factors of brightness, contrast and saturation non-negative.
        s = self.jitter_strength
        check(0 <= s <= 1.25, "augment.jitter_strength", s, "in [0, 1.25]")
        check_probability("augment.grayscale_probability", self.grayscale_probability)
        check_probability("augment.blur_probability", self.blur_probability)
        check_range("augment.blur_sigma", self.blur_sigma)
