"""open_clip's losses and their adapters, with open_clip installed; else its formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_ext.compat import open_clip as ours
from tests.compat_losses.helpers import assert_same_training, batches, dtypes, unit


def dense_clip(image: Tensor, text: Tensor, scale: Tensor, bias: float = 0.0) -> Tensor:
    """Return CLIP's loss, figure 3 of its paper."""
    logits = scale * image @ text.mT + bias
    target = torch.arange(len(image))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target)) / 2


def dense_siglip(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | float) -> Tensor:
    """Return SigLIP's loss, algorithm 1 of its paper."""
    sign = 2 * torch.eye(len(image), dtype=image.dtype) - 1
    return -F.logsigmoid(sign * (scale * image @ text.mT + bias)).sum() / len(image)


def installed() -> Any:
    return pytest.importorskip("open_clip.loss", reason="open_clip is not installed")


TRUTHS = {
    "open_clip": lambda: installed().ClipLoss(cache_labels=True),
    "formula": lambda: dense_clip,
}
SIGMOID_TRUTHS = {
    "open_clip": lambda: installed().SigLipLoss(),
    "formula": lambda: dense_siglip,
}


@dtypes
@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("n", "scale"), [(1, 3.0), (2, 100.0), (33, 14.3)])
def test_clip(n: int, scale: float, normalize: bool, truth: str, dtype: torch.dtype) -> None:
    form = unit if normalize else lambda z: 0.3 * z

    def wrapped(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(image: Tensor, text: Tensor) -> Tensor:
            # A scale that is learned, here with the encoder.
            learned = scale * (1 + 0.01 * image.square().mean())
            return loss(form(image), form(text), learned)

        return call

    theirs = wrapped(TRUTHS[truth]())
    tolerance = 1e-3 if dtype == torch.float32 and scale > 50 else None
    assert_same_training(theirs, wrapped(ours.ClipLoss()), batches(n, 2, dtype), tolerance)


@dtypes
@pytest.mark.parametrize("truth", SIGMOID_TRUTHS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("n", "scale", "bias"), [(1, 10.0, -10.0), (2, 1.0, 0.5), (33, 10.0, -3.0)]
)
def test_siglip(
    n: int, scale: float, bias: float, normalize: bool, truth: str, dtype: torch.dtype
) -> None:
    form = unit if normalize else lambda z: 0.3 * z

    def wrapped(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(image: Tensor, text: Tensor) -> Tensor:
            learned = 1 + 0.01 * image.square().mean()
            return loss(form(image), form(text), scale * learned, bias * learned)

        return call

    theirs, our = wrapped(SIGMOID_TRUTHS[truth]()), wrapped(ours.SigLipLoss())
    assert_same_training(theirs, our, batches(n, 2, dtype))


def test_arguments_of_siglip() -> None:
    image, text = unit(torch.randn(2, 5, 4, dtype=torch.float64))
    found = ours.SigLipLoss(True, 0, 1, "gather")(
        image_features=image,
        text_features=text,
        logit_scale=5.0,
        logit_bias=None,
        output_dict=True,
    )
    assert found.keys() == {"contrastive_loss"}
    expected = dense_siglip(image, text, torch.tensor(5.0), 0.0)
    torch.testing.assert_close(found["contrastive_loss"], expected)
    with pytest.raises(ValueError, match=r"dist_impl must be None or one of .* got 'ring'"):
        ours.SigLipLoss(dist_impl="ring")


def test_arguments_of_the_call() -> None:
    image, text = unit(torch.randn(2, 5, 4, dtype=torch.float64))
    bias = nn.Parameter(torch.tensor(-3.0, dtype=torch.float64))
    scale = nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
    found = ours.ClipLoss(True, True, True, 0, 1, False)(
        image_features=image,
        text_features=text,
        logit_scale=scale,
        logit_bias=bias,
        output_dict=True,
    )
    assert found.keys() == {"contrastive_loss"}
    expected = dense_clip(image, text, scale, -3.0)
    torch.testing.assert_close(found["contrastive_loss"], expected)
    gradients = torch.autograd.grad(found["contrastive_loss"], [scale, bias])
    torch.testing.assert_close(gradients[0], torch.autograd.grad(expected, scale)[0])
    assert gradients[1].item() == 0  # not None: DDP counts on a gradient for each parameter
    torch.testing.assert_close(ours.ClipLoss()(image, text, 5.0), expected)


def test_several_processes_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="world_size=4 gathers the negatives of all 4"):
        ours.ClipLoss(world_size=4)
    with pytest.raises(NotImplementedError, match="world_size=2 gathers the negatives of all 2"):
        ours.SigLipLoss(world_size=2)
