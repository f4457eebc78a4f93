"""open_clip's contrastive losses: ``from simclr_ext.compat.open_clip import ClipLoss``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from simclr_ext.compat._refuse import world
from simclr_ext.losses import info_nce_loss, siglip_loss
from simclr_ext.losses._options import Options, row_losses

EXCHANGES = ("bidir", "shift", "reduce", "gather")  # between processes


class ClipLoss(nn.Module):
    r"""``open_clip.loss.ClipLoss``: the mean of both directions, of features as they are.

    With s_ij = scale image_i . text_j and N pairs

    .. math:: L = \frac{1}{2N} \sum_i \Big( \log \sum_j e^{s_{ij}} - s_{ii}
              + \log \sum_j e^{s_{ji}} - s_{ii} \Big)

    With several processes the pairs of all are compared, and values and gradients of the features
    are open_clip's on each rank, for all four combinations of the first two arguments. The gradient
    of ``logit_scale`` is on each rank the mean over the ranks of open_clip's, which is what DDP
    makes of them; with ``local_loss`` and without ``gather_with_grad`` it is the rank's own, as in
    open_clip. With ``gather_with_grad`` each pair is compared once in the whole job.

    Args:
        local_loss: Whether the value is the mean over the pairs of a rank, and not over all.
        gather_with_grad: Whether features have a gradient of other ranks' losses, too.
        cache_labels: Of no effect: there are no labels.
        rank: Of no effect: the rank is that of this process.
        world_size: The number of processes.
        use_horovod: Must be False with several processes.

    Raises:
        ValueError: By a call, if ``world_size`` is neither 1 nor the number of processes.
        NotImplementedError: If Horovod is asked for.

    Example:
        >>> criterion, features = ClipLoss(), torch.eye(4)
        >>> round(criterion(features, features, torch.tensor(2.0)).item(), 4)  # log(e^2 + 3) - 2
        0.3408

    Source: CLIP (arXiv 2103.00020), figure 3.
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
    ) -> None:
        super().__init__()
        if use_horovod and world_size > 1:
            raise NotImplementedError("use_horovod must be False with several processes")
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.use_horovod = use_horovod

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of pairs of features, [N, D] each, or ``{"contrastive_loss": loss}``.

        Args:
            image_features: [N, D], floating; the caller normalizes them.
            text_features: [N, D].
            logit_scale: 1 / T > 0.
            logit_bias: One number for all logits; changes no softmax, so its gradient is 0.
            output_dict: Whether to return a dictionary.
        """
        scale = logit_scale if isinstance(logit_scale, Tensor) else torch.tensor(float(logit_scale))
        if self.world_size > 1 and self.local_loss and not self.gather_with_grad:
            total_loss = self._of_fixed_others(image_features, text_features, scale)
        else:
            total_loss = self._of_all(image_features, text_features, scale)
        if isinstance(logit_bias, Tensor):  # a parameter without a gradient is an error under DDP
            total_loss = total_loss + 0 * logit_bias.sum()
        return {"contrastive_loss": total_loss} if output_dict else total_loss

    def _of_all(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Return the loss with gradients of the pairs of all ranks."""
        group = world(self.world_size)
        if group is not None and not self.gather_with_grad:
            # Every rank has the loss of all, and a gradient of its own features in that of one.
            image, text = (_with_part_of_gradient(z, self.world_size) for z in (image, text))
        local = group is not None and self.local_loss
        loss = info_nce_loss(
            image,
            text,
            logit_scale=scale,
            symmetric=True,
            normalize=False,
            group=group,
            reduction="none" if local else "mean",
        )
        return loss.mean() if local else loss

    def _of_fixed_others(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Return the mean over this rank's pairs; what they are compared with is fixed.

        Both directions are a pass each, over the columns of all ranks.
        """
        group = world(self.world_size)
        options = Options.of(1 / scale, "mean", False, None, "auto")
        n, losses = len(image), []
        for rows, columns in ((image, text), (text, image)):
            everyone = [torch.empty_like(columns) for _ in range(self.world_size)]
            dist.all_gather(everyone, columns.detach().contiguous(), group=group)
            shifts = (n * dist.get_rank(group),)
            losses.append(row_losses(rows, torch.cat(everyone), options, shifts=shifts)[0][:n])
        return torch.cat(losses).mean()


def _with_part_of_gradient(z: Tensor, parts: int) -> Tensor:
    """Return z, whose gradient is divided by the number of parts."""
    z = z.view_as(z)
    if z.requires_grad:
        z.register_hook(lambda grad: grad / parts)  # type: ignore[no-untyped-call]
    return z


class SigLipLoss(nn.Module):
    r"""``open_clip.loss.SigLipLoss``: :func:`simclr_ext.siglip_loss` of features as they are.

    With s_ij = scale image_i . text_j + bias, c_ii = 1 and all other c_ij = -1

    .. math:: L = -\frac{1}{N} \sum_i \sum_j \log \frac{1}{1 + \exp(-c_{ij} s_{ij})}

    With several processes the images of a rank are compared with the texts of all: value and
    gradients of the features are open_clip's on each rank. The gradients of scale and bias are on
    each rank the mean over the ranks of open_clip's, which is what DDP makes of them.

    Args:
        cache_labels: Of no effect, as there.
        rank: Of no effect: the rank is that of this process.
        world_size: The number of processes.
        dist_impl: None, ``"bidir"``, ``"shift"``, ``"reduce"`` or ``"gather"``. With "gather" and
            "reduce" a rank holds all texts, with the others those of two ranks.
        chunk_size: Of no effect: memory is O(N D) anyway.

    Raises:
        ValueError: If ``dist_impl`` is none of these, or, by a call, if ``world_size`` is neither 1
            nor the number of processes.

    Example:
        >>> criterion, features = SigLipLoss(), torch.eye(4)
        >>> round(criterion(features, features, 10.0, -10.0).item(), 4)
        0.6933

    Source: SigLIP (arXiv 2303.15343), algorithm 1.
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        chunk_size: int = 0,
    ) -> None:
        super().__init__()
        if dist_impl not in (None, *EXCHANGES):
            raise ValueError(f"dist_impl must be None or one of {EXCHANGES}, got {dist_impl!r}")
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl or EXCHANGES[0]
        self.chunk_size = chunk_size

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of pairs of features, [N, D] each, or ``{"contrastive_loss": loss}``.

        Args:
            image_features: [N, D], floating; the caller normalizes them.
            text_features: [N, D].
            logit_scale: > 0.
            logit_bias: Of any sign; None: 0.
            output_dict: Whether to return a dictionary.
        """
        rows = siglip_loss(
            image_features,
            text_features,
            logit_scale,
            0.0 if logit_bias is None else logit_bias,
            normalize=False,
            group=world(self.world_size),
            exchange="gather" if self.dist_impl in ("reduce", "gather") else "ring",
            reduction="none",
        )
        loss = rows.mean()
        return {"contrastive_loss": loss} if output_dict else loss
