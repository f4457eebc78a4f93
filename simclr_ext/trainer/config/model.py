"""The encoder and the projection head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simclr_ext.options.checks import check, check_at_least, check_null_or_at_least, check_types

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
OTHERS = ("torchvision:", "timm:")


@dataclass(frozen=True)
class ModelConfig:
    """The encoder f and the projection head g: h = f(x), z = g(h).

    Attributes:
        encoder: "small" (a ResNet of `width` and `blocks`), "resnet18", "resnet34", "resnet50",
            "resnet101", "resnet152", or any model as "torchvision:NAME" or "timm:NAME"; "custom":
            the module that `train` was given, from Python.
        width_multiplier: Factor of all channels of "resnet..."; the paper: 1, 2 and 4.
        stem: First layers of "small" and "resnet...": "cifar", a 3x3 convolution of stride 1 and no
            max pool (appendix B.9), or "imagenet", a 7x7 convolution of stride 2 and a max pool.
        zero_init_residual: Whether the last batch norm of every residual block of "small" and
            "resnet..." starts at 0, so that the block starts as the identity, as in the authors'
            code.
        normalize: What is done to the images, which are in [0, 1], first: "none", or "imagenet":
            ImageNet's mean and deviation of each color, as the weights of torchvision and of most
            of timm's models expect; gray images are repeated to three colors for it.
        width: Channels of the first stage of "small"; each further stage doubles them.
        blocks: Residual blocks of each stage of "small"; each stage after the first halves the
            side.
        projection: The head: "mlp", "linear", or "none": the loss is computed from h (section 4.2).
        projection_depth: Linear layers of "mlp". SimCLR: 2; SimCLR v2: 3.
        projection_hidden: Width of the hidden layers of "mlp"; null: that of h.
        projection_dim: Dimension of z; not for "none".
        projection_batch_norm: Whether a batch norm follows every linear layer of the head, as in
            the authors' code; the last one has no bias.
        sync_batch_norm: Whether batch norms of a run in several processes use the statistics of
            all their images, as in the paper, or each those of its own.
    """

    encoder: str = "small"
    width_multiplier: int = 1
    stem: Literal["cifar", "imagenet"] = "cifar"
    zero_init_residual: bool = False
    normalize: Literal["none", "imagenet"] = "none"
    width: int = 16
    blocks: tuple[int, ...] = (1, 1, 1)
    projection: Literal["mlp", "linear", "none"] = "mlp"
    projection_depth: int = 2
    projection_hidden: int | None = None
    projection_dim: int = 128
    projection_batch_norm: bool = False
    sync_batch_norm: bool = True

    def __post_init__(self) -> None:
        check_types(self, "model.")
        name = self.encoder
        ok = name in ("small", "custom", *RESNETS) or (
            name.startswith(OTHERS) and name not in OTHERS
        )
        allowed = f'"small", {", ".join(RESNETS)}, "torchvision:NAME" or "timm:NAME"'
        check(ok, "model.encoder", name, allowed)
        allowed = '"none" for an own encoder'
        ok = name != "custom" or self.normalize == "none"
        check(ok, "model.normalize", self.normalize, allowed)
        check_at_least("model.width_multiplier", self.width_multiplier, 1)
        if name not in RESNETS:
            allowed = f'1 unless model.encoder is "resnet..." (it is {name!r})'
            factor = self.width_multiplier
            check(factor == 1, "model.width_multiplier", factor, allowed)
        check_at_least("model.width", self.width, 1)
        ok = len(self.blocks) >= 1 and min(self.blocks) >= 1
        check(ok, "model.blocks", self.blocks, "one or more stages of at least 1 block")
        check_at_least("model.projection_depth", self.projection_depth, 2)
        check_null_or_at_least("model.projection_hidden", self.projection_hidden, 1)
        check_at_least("model.projection_dim", self.projection_dim, 1)
