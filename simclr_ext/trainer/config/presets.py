"""Recipes by name. Sections are those of SimCLR, arXiv 2002.05709."""

from __future__ import annotations

from simclr_ext.trainer.config.augment import AugmentConfig
from simclr_ext.trainer.config.model import ModelConfig
from simclr_ext.trainer.config.optim import OptimConfig
from simclr_ext.trainer.config.train import TrainConfig

_IMAGENET_R50 = TrainConfig(
    data="imagenet",
    image_size=224,  # appendix A
    epochs=100,  # section 2.2; the best results take 1,000
    batch_size=4096,  # section 2.2
    temperature=0.1,  # section 5.1, table 5
    precision="bf16",  # ours: the paper's TPUs also multiply in bf16
    evaluate=False,  # ours: with this many images, `eval` does it separately
    # Appendix A: strength 1, and blur.
    augment=AugmentConfig(flip_probability=0.5, jitter_strength=1.0, blur_probability=0.5),
    model=ModelConfig(
        encoder="resnet50",
        stem="imagenet",
        zero_init_residual=True,  # the authors' code
        projection_dim=128,  # section 2.2; the hidden layer is as wide as h
        projection_batch_norm=True,  # the authors' code
    ),
    # Section 2.2: 0.3 N / 256 = 4.8, 10 epochs of warmup (the default), decay 1e-6.
    optim=OptimConfig(learning_rate=0.3, scaling="linear", weight_decay=1e-6),
)

_CIFAR10_R50 = TrainConfig(
    data="cifar10",
    image_size=32,
    epochs=1000,  # appendix B.9
    batch_size=1024,  # appendix B.9: the best of the range
    temperature=0.5,  # appendix B.9
    precision="bf16",  # ours
    # Appendix B.9: strength 0.5, no blur.
    augment=AugmentConfig(flip_probability=0.5, jitter_strength=0.5, blur_probability=0.0),
    model=ModelConfig(
        encoder="resnet50",
        stem="cifar",  # appendix B.9
        zero_init_residual=True,
        projection_dim=128,
        projection_batch_norm=True,
    ),
    # Appendix B.9: rate 1.0, not scaled, for a batch of 1,024.
    optim=OptimConfig(learning_rate=1.0, scaling="none", weight_decay=1e-6),
)

_CIFAR10_R18 = TrainConfig(  # ours: the recipe above, with an encoder common in comparisons
    **{
        **vars(_CIFAR10_R50),
        "model": ModelConfig(**{**vars(_CIFAR10_R50.model), "encoder": "resnet18"}),
    }
)

_CPU_SMALL = TrainConfig(  # ours: what two CPU cores train on 10,000 images in minutes
    data="cifar10",
    image_size=24,
    epochs=30,
    batch_size=256,
    temperature=0.5,  # appendix B.9
    precision="bf16",  # twice as fast as float32 where the processor has AVX512-BF16 or AMX
    model=ModelConfig(width=32, blocks=(1, 1, 1)),
    # Appendix B.1: 0.075 sqrt(N), better for small batches and short runs.
    optim=OptimConfig(learning_rate=0.075, scaling="sqrt"),
)

PRESETS = {
    "imagenet-r50": _IMAGENET_R50,
    "cifar10-r50": _CIFAR10_R50,
    "cifar10-r18": _CIFAR10_R18,
    "cpu-small": _CPU_SMALL,
}

DEMO = TrainConfig(
    data="digits",
    epochs=200,
    augment=AugmentConfig(crop_area=(0.2, 1.0), blur_probability=0.5),
)
"""Scikit-learn's digits: the paper's recipe except for the minimum area of the crop (a smaller
piece of a digit is a stroke that many digits share) and the blur; docs/trainer.md says how they
were chosen, and how long the demo takes."""
