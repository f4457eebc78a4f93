"""open_clip's contrastive losses: ``from simclr_ext.compat.open_clip import ClipLoss``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simclr_ext.compat._refuse import refuse_processes
from simclr_ext.losses import info_nce_loss, siglip_loss

EXCHANGES = ("bidir", "shift", "reduce", "gather")  # between processes


class ClipLoss(nn.Module):
    r"""``open_clip.loss.ClipLoss``: the mean of both directions, of features as they are.

    With s_ij = scale image_i . text_j and N pairs

    .. math:: L = \frac{1}{2N} \sum_i \Big( \log \sum_j e^{s_{ij}} - s_{ii}
              + \log \sum_j e^{s_{ji}} - s_{ii} \Big)

    Args:
        local_loss: Of no effect in one process.
        gather_with_grad: Of no effect in one process.
        cache_labels: Of no effect: there are no labels.
        rank: Of no effect in one process.
        world_size: Must be 1.
        use_horovod: Of no effect in one process.

    Raises:
        NotImplementedError: If ``world_size`` is more than 1.

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
        refuse_processes(f"world_size={world_size}", world_size)
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
        scale = torch.as_tensor(logit_scale)
        total_loss = info_nce_loss(
            image_features, text_features, logit_scale=scale, symmetric=True, normalize=False
        )
        if isinstance(logit_bias, Tensor):  # a parameter without a gradient is an error under DDP
            total_loss = total_loss + 0 * logit_bias.sum()
        return {"contrastive_loss": total_loss} if output_dict else total_loss


class SigLipLoss(nn.Module):
    r"""``open_clip.loss.SigLipLoss``: :func:`simclr_ext.siglip_loss` of features as they are.

    With s_ij = scale image_i . text_j + bias, c_ii = 1 and all other c_ij = -1

    .. math:: L = -\frac{1}{N} \sum_i \sum_j \log \frac{1}{1 + \exp(-c_{ij} s_{ij})}

    Args:
        cache_labels: Of no effect, as there.
        rank: Of no effect in one process.
        world_size: Must be 1.
        dist_impl: None, ``"bidir"``, ``"shift"``, ``"reduce"`` or ``"gather"``; of no effect in one
            process.
        chunk_size: Of no effect: memory is O(N D) anyway.

    Raises:
        ValueError: If ``dist_impl`` is none of these.
        NotImplementedError: If ``world_size`` is more than 1.

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
        refuse_processes(f"world_size={world_size}", world_size)
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
        loss = siglip_loss(
            image_features,
            text_features,
            logit_scale,
            0.0 if logit_bias is None else logit_bias,
            normalize=False,
        )
        return {"contrastive_loss": loss} if output_dict else loss
