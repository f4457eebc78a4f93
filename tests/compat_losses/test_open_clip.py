"""open_clip's losses and their adapters, with open_clip installed; else its formula."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_ext.compat import open_clip as ours
from tests.compat_losses.helpers import assert_same_training, batches, dtypes, unit
from tests.distributed.processes import Processes


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
    for scale in (5.0, 5):
        torch.testing.assert_close(ours.ClipLoss()(image, text, scale), expected)


RANKS, PAIRS = 3, 4  # of each rank


def features(rank: int) -> Tensor:
    """Return images and texts of a rank, [2, PAIRS, 6]."""
    generator = torch.Generator().manual_seed(rank)
    return unit(torch.randn(2, PAIRS, 6, generator=generator, dtype=torch.float64))


def on_rank(
    rank: int, group: Any, package: str, name: str, options: dict[str, Any]
) -> list[Tensor]:
    """Return the value and the gradients of a rank, those of scale and bias averaged."""
    module = importlib.import_module(package)
    image, text = (z.clone().requires_grad_() for z in features(rank))
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (5.0, -2.0))
    loss = getattr(module, name)(rank=rank, **options)(image, text, scale, bias)
    *gradients, grad_scale, grad_bias = torch.autograd.grad(loss, [image, text, scale, bias])
    for grad in (grad_scale, grad_bias):
        dist.all_reduce(grad)
    return [loss.detach(), *gradients, grad_scale / RANKS, grad_bias / RANKS]


def clip_of_all(local_loss: bool, gather_with_grad: bool) -> list[list[Tensor]]:
    """Return the same of all ranks, computed in one process by open_clip's definition."""
    own = [features(rank).clone().requires_grad_() for rank in range(RANKS)]
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    values = []
    for rank in range(RANKS):
        fixed = [z if gather_with_grad else z.detach() for z in own]
        if not local_loss:
            fixed[rank] = own[rank]
        images, texts = torch.cat(fixed, 1)
        target = torch.arange(RANKS * PAIRS)
        if local_loss:
            target = target[rank * PAIRS :][:PAIRS]
            rows = (own[rank][0] @ texts.mT, own[rank][1] @ images.mT)
        else:
            rows = (images @ texts.mT, texts @ images.mT)
        values.append(sum(F.cross_entropy(scale * logits, target) for logits in rows) / 2)
    # Features have the gradient of all losses that they have a part in.
    gradients = torch.autograd.grad(sum(values), [*own, scale])
    zero = torch.zeros((), dtype=torch.float64)
    return [
        [value.detach(), *gradients[rank], gradients[-1] / RANKS, zero]
        for rank, value in enumerate(values)
    ]


def siglip_of_all() -> list[list[Tensor]]:
    own = [features(rank).clone().requires_grad_() for rank in range(RANKS)]
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (5.0, -2.0))
    texts = torch.cat(own, 1)[1]
    values = []
    for rank in range(RANKS):
        sign = -torch.ones(PAIRS, RANKS * PAIRS, dtype=torch.float64)
        sign.diagonal(rank * PAIRS).fill_(1)
        logits = scale * own[rank][0] @ texts.mT + bias
        values.append(-F.logsigmoid(sign * logits).sum() / PAIRS)
    gradients = torch.autograd.grad(sum(values), [*own, scale, bias])
    means = [grad / RANKS for grad in gradients[-2:]]
    return [[value.detach(), *gradients[rank], *means] for rank, value in enumerate(values)]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    found = Processes(tmp_path_factory.mktemp("ranks"), RANKS)
    yield found
    found.close()


WAYS = list(itertools.product([False, True], repeat=2))


@pytest.mark.parametrize(("local_loss", "gather_with_grad"), WAYS)
def test_clip_over_several_processes(
    local_loss: bool, gather_with_grad: bool, processes: Processes
) -> None:
    options = {
        "local_loss": local_loss,
        "gather_with_grad": gather_with_grad,
        "world_size": RANKS,
    }
    found = processes.run(on_rank, RANKS, "simclr_ext.compat.open_clip", "ClipLoss", options)
    expected = clip_of_all(local_loss, gather_with_grad)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dist_impl", [None, *ours.EXCHANGES])
def test_siglip_over_several_processes(dist_impl: str | None, processes: Processes) -> None:
    options = {"world_size": RANKS, "dist_impl": dist_impl}
    found = processes.run(on_rank, RANKS, "simclr_ext.compat.open_clip", "SigLipLoss", options)
    torch.testing.assert_close(found, siglip_of_all(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("local_loss", "gather_with_grad"), WAYS)
def test_the_formula_over_several_processes_is_open_clips(
    local_loss: bool, gather_with_grad: bool, processes: Processes
) -> None:
    installed()
    options = {
        "local_loss": local_loss,
        "gather_with_grad": gather_with_grad,
        "world_size": RANKS,
    }
    found = processes.run(on_rank, RANKS, "open_clip.loss", "ClipLoss", options)
    expected = clip_of_all(local_loss, gather_with_grad)
    for values, truth in zip(found, expected, strict=True):
        assert not isinstance(values, Exception), values
        torch.testing.assert_close(values[:-1], truth[:-1], rtol=1e-9, atol=1e-12)
    found = processes.run(on_rank, RANKS, "open_clip.loss", "SigLipLoss", {"world_size": RANKS})
    torch.testing.assert_close(found, siglip_of_all(), rtol=1e-9, atol=1e-12)


def test_a_wrong_number_of_processes() -> None:
    z = unit(torch.randn(2, 5, 4))
    for criterion in (ours.ClipLoss(world_size=4), ours.SigLipLoss(world_size=4)):
        with pytest.raises(ValueError, match=r"world_size must be .* 1, got 4"):
            criterion(z[0], z[1], 5.0, -1.0)
    with pytest.raises(NotImplementedError, match="use_horovod must be False"):
        ours.ClipLoss(world_size=2, use_horovod=True)
