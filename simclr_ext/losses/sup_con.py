"""SupCon: the supervised contrastive loss, in which all rows with a label are positives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from simclr_ext._checks.tensors import check_matrix
from simclr_ext.backends.reference import Reduction
from simclr_ext.backends.selection import Backend
from simclr_ext.losses._module import ContrastiveLoss
from simclr_ext.losses._options import (
    Options,
    check_ids,
    check_of_rows,
    numbers_of,
    reduce_weighted,
    row_losses,
    sizes_of,
)
from simclr_ext.losses._ranks import agreed, check_group, errors_reach_all

if TYPE_CHECKING:
    from simclr_ext.distributed import Group, Union

Form = Literal["out", "in"]
FORMS = get_args(Form)


def sup_con_loss(
    features: Tensor,
    labels: Tensor | None = None,
    temperature: float | Tensor = 0.07,
    *,
    form: Form = "out",
    weights: Tensor | None = None,
    group: Group | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compute the supervised contrastive loss of any number of views, in O(N D) memory.

    With z the rows of all views, s their cosine similarities and P(i) the other rows with the
    label of row i,

    .. math:: \ell_i^{out} = \frac{-1}{|P(i)|} \sum_{p \in P(i)}
              \log \frac{\exp(s_{ip} / T)}{\sum_{j \ne i} \exp(s_{ij} / T)}, \qquad
              \ell_i^{in} = -\log \frac{1}{|P(i)|} \sum_{p \in P(i)}
              \frac{\exp(s_{ip} / T)}{\sum_{j \ne i} \exp(s_{ij} / T)}

    and 0 for a row without positives. Without labels the views of an image are its positives; with
    two views that is :func:`simclr_ext.nt_xent_loss`.

    Args:
        features: [N, V, D], V views of N images, or [N, D]; N, V, D >= 1, floating, any strides.
        labels: [N] integers of any values, on the device of the features; None: one for each image.
        temperature: T > 0; a number, or a floating tensor of shape [] or [1], which receives a
            gradient if it requires one.
        form: ``"out"``: the mean over the positives is outside of the logarithm, as the paper
            recommends. ``"in"``: inside; takes twice the work.
        weights: [N] floating, >= 0: weights of the images; receives a gradient if it requires one.
            The mean is then the weighted mean.
        group: Positives and negatives are those of all its processes; the contract is that of
            :func:`simclr_ext.nt_xent_loss`. Every process gathers all rows, and compares its own
            with all: a pair of rows of two processes is compared by both.
        reduction: ``"mean"`` or ``"sum"`` over all N V rows, or ``"none"``: [N, V] losses, or [N]
            of features [N, D].
        normalize: Whether to divide each row by its l2 norm first. If not, s are dot products.
        eps: As in :func:`simclr_ext.nt_xent_loss`.
        backend: As in :func:`simclr_ext.nt_xent_loss`.

    Returns:
        A scalar, or [N, V] or [N] losses; float32, or float64 for float64 features.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, device or value is not as above.
        BackendUnavailableError: As in :func:`simclr_ext.nt_xent_loss`.

    Example:
        >>> features = torch.eye(4)  # log(3): all similarities are 0
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> round(sup_con_loss(features, labels).item(), 4)
        1.0986

    Source: SupCon (arXiv 2004.11362), equations 2 and 3.
    """
    with errors_reach_all(group):
        n, views, z = _rows_of(features)
        options = Options.of(temperature, reduction, normalize, eps, backend)
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, got {form!r}")
        if weights is not None:
            check_of_rows("weights", weights, features)
            weights = weights.repeat_interleave(views)
        check_ids("labels", labels, n, z.device)
        if labels is None and views == 1:
            raise ValueError(
                "features must be [N, V, D] with two views or more if there are no labels: a row "
                f"has no positives; got shape {tuple(features.shape)}"
            )
        check_group(group, "gather", options, z)
    union, options = agreed(
        "sup_con_loss",
        group,
        "gather",
        (z, z),
        (len(z), len(z)),
        options,
        facts={
            "form": form,
            "labels given": labels is not None,
            "weights given": weights is not None,
        },
    )
    if labels is None:
        labels = torch.arange(n, device=z.device)
        if union is not None:
            labels = labels + union.rows_before.to(labels)
    ids = labels.repeat_interleave(views)
    label, count = (numbers_of(ids), None) if union is None else union.numbers(ids)
    rows = _losses(z, label, count, form, options, union)
    loss = reduce_weighted(rows, reduction, weights, union)
    return loss.view(features.shape[:-1]) if reduction == "none" else loss


def _rows_of(features: Tensor) -> tuple[int, int, Tensor]:
    """Return N, V, and the rows of all views [N V, D]; raise if they are not floating."""
    if not isinstance(features, Tensor) or features.ndim not in (2, 3):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"features must be a tensor [N, V, D] or [N, D], got {got}")
    n, views = features.shape[0], features.shape[1] if features.ndim == 3 else 1
    z = features.reshape(n * views, features.shape[-1])
    check_matrix("features", z, "N V")
    return n, views, z


def _losses(
    z: Tensor,
    label: Tensor,
    count: Tensor | None,  # how often each label is on all ranks of the union
    form: Form,
    options: Options,
    union: Union | None,
) -> Tensor:
    loss, lse = row_losses(z, None, options, label=label, union=union)
    if form == "out":
        return loss
    _, positive_lse = row_losses(
        z, None, options, label=label, denominator="positives", union=union
    )
    if count is None:
        count = sizes_of(label)[label.long()]
    positives = count - 1
    inside = lse - positive_lse + positives.to(lse.dtype).log()
    return torch.where(positives > 0, inside, 0).to(loss.dtype)


class SupConLoss(ContrastiveLoss):
    """The supervised contrastive loss as a module; see :func:`sup_con_loss` for the equation.

    Args:
        temperature: T > 0; a number, or a floating tensor of shape [] or [1]. An ``nn.Parameter``
            is learned, and a parameter of the module; any other tensor is a buffer of it.
        form: As in :func:`sup_con_loss`.
        group: As in :func:`sup_con_loss`.
        reduction: As in :func:`sup_con_loss`.
        normalize: As in :func:`sup_con_loss`.
        eps: As in :func:`sup_con_loss`.
        backend: As in :func:`sup_con_loss`.
        max_scale: As in :class:`simclr_ext.NTXentLoss`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.

    Example:
        >>> criterion = SupConLoss(0.1)
        >>> criterion(torch.randn(8, 2, 16), torch.arange(8) % 3).shape
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        form: Form = "out",
        group: Group | None = None,
        reduction: Reduction = "mean",
        normalize: bool = True,
        eps: float | None = None,
        backend: Backend = "auto",
        max_scale: float | None = None,
    ) -> None:
        super().__init__(temperature, reduction, normalize, eps, backend, max_scale, group)
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, got {form!r}")
        self.form: Form = form

    def forward(
        self, features: Tensor, labels: Tensor | None = None, *, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of features [N, V, D] or [N, D] and labels [N]."""
        options = self.options()
        del options["exchange"]  # all rows are gathered
        return sup_con_loss(
            features,
            labels,
            self.clamped_temperature(),
            form=self.form,
            weights=weights,
            **options,
        )
