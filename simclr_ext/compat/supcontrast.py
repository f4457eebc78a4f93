"""SupContrast's loss: ``from simclr_ext.compat.supcontrast import SupConLoss``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from simclr_ext._checks.scalars import check_scale
from simclr_ext.losses import sup_con_loss

ContrastMode = Literal["all", "one"]
ROWS = 256  # of a mask that are read at once


class SupConLoss(nn.Module):
    r"""``losses.SupConLoss`` of HobbitLong/SupContrast: SupCon of features as they are.

    With s_ij = z_i . z_j of all N V rows and P(i) the other rows with the label of row i,

    .. math:: \ell_i = -\frac{T}{T_{base}} \frac{1}{|P(i)|} \sum_{p \in P(i)}
              \log \frac{\exp(s_{ip} / T)}{\sum_{j \ne i} \exp(s_{ij} / T)}

    and 0 for a row without positives. The loss is the mean over all rows.

    Args:
        temperature: T > 0.
        contrast_mode: ``"all"``, or ``"one"``: the mean over the rows of the first view alone
            (computed for all, so no faster).
        base_temperature: T_base > 0. The loss and its gradients are T / T_base times those of
            :func:`simclr_ext.sup_con_loss`.

    Raises:
        TypeError: If a temperature is no number.
        ValueError: If an argument has a value that is not allowed.

    Example:
        >>> features = torch.eye(4).view(2, 2, 4)  # log(3): all similarities are 0
        >>> round(SupConLoss()(features).item(), 4)
        1.0986

    Source: SupCon (arXiv 2004.11362), equation 2.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        contrast_mode: ContrastMode = "all",
        base_temperature: float = 0.07,
    ) -> None:
        super().__init__()
        check_scale("temperature", temperature)
        check_scale("base_temperature", base_temperature)
        if contrast_mode not in ("all", "one"):
            raise ValueError(f"contrast_mode must be 'all' or 'one', got {contrast_mode!r}")
        self.temperature = temperature
        self.contrast_mode: ContrastMode = contrast_mode
        self.base_temperature = base_temperature

    def forward(
        self, features: Tensor, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the loss.

        Args:
            features: [N, V, ...], V views of N images; the caller normalizes them. The rest of
                the shape is flattened.
            labels: [N] or [N, 1] integers; None: one for each image.
            mask: Instead of labels, [N, N]: 1 where two images have the same class, else 0.

        Raises:
            ValueError: If labels and a mask are given, or a shape is not as above.
            NotImplementedError: If the mask is not that of any labels: some image is not of its
                own class, or i of that of j but not j of that of i, or of k and k not of i.
        """
        if features.ndim < 3:
            raise ValueError(f"features must be [N, V, ...], got shape {tuple(features.shape)}")
        if labels is not None and mask is not None:
            raise ValueError("labels and mask exclude each other, got both")
        if labels is not None:
            labels = labels.reshape(-1).to(features.device)
        elif mask is not None:
            labels = _labels_of(mask, len(features)).to(features.device)
        else:  # the original's loss of a single view without labels is 0
            labels = torch.arange(len(features), device=features.device)
        rows = sup_con_loss(
            features.flatten(2), labels, self.temperature, reduction="none", normalize=False
        )
        if self.contrast_mode == "one":
            rows = rows[:, 0]
        return (self.temperature / self.base_temperature) * rows.mean()


def _labels_of(mask: Tensor, n: int) -> Tensor:
    """Return labels [N] that are equal where the mask is 1: the first image of the same class."""
    if mask.shape != (n, n):
        raise ValueError(f"mask must be [N, N] = [{n}, {n}], got shape {tuple(mask.shape)}")
    first = (mask.to(torch.uint8) if mask.dtype == torch.bool else mask).argmax(1)
    for begin in range(0, n, ROWS):
        rows, own = mask[begin : begin + ROWS], first[begin : begin + ROWS]
        if not torch.equal(rows, (own[:, None] == first).to(rows.dtype)):
            raise NotImplementedError(
                "mask must be that of labels, mask[i, j] = (labels[i] == labels[j]), so that no "
                "N x N matrix is needed; other masks need SupContrast's own SupConLoss"
            )
    return first
