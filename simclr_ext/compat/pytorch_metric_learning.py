"""pytorch-metric-learning's losses: ``from simclr_ext.compat.pytorch_metric_learning import ...``.

They work with that library's distances, `SelfSupervisedLoss` and trainers; not with its miners,
reducers and regularizers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from simclr_ext._checks.scalars import as_temperature
from simclr_ext._checks.tensors import check_columns, check_matrix
from simclr_ext.backends.reference import Denominator, compute_dtype
from simclr_ext.compat._pairs import PositivePairs
from simclr_ext.losses._options import Options, check_ids, numbers_of, row_losses

# Positive pairs for each row whose similarities are computed at once: 2 D numbers for each pair, so
# a small multiple of the N D numbers of the embeddings.
PAIRS_PER_ROW = 8


class _LabelLoss(nn.Module):
    """What both losses share: the arguments, and which pairs labels make.

    Args:
        temperature: T > 0.
        distance: Of the library, or None.
        reducer: Of the library, or None.
        embedding_regularizer: Must be None.
        embedding_reg_weight: Of no effect without a regularizer.
        collect_stats: Must be None or False.
    """

    reducer_name: str

    def __init__(
        self,
        temperature: float,
        *,
        distance: Any = None,
        reducer: Any = None,
        embedding_regularizer: None = None,
        embedding_reg_weight: float = 1,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__()
        as_temperature(temperature)
        theirs = f"pytorch_metric_learning.losses.{type(self).__name__}"
        if reducer is not None and type(reducer).__name__ != self.reducer_name:
            raise NotImplementedError(
                f"reducer must be None or {self.reducer_name}(), got {reducer!r}; use {theirs}"
            )
        if embedding_regularizer is not None:
            raise NotImplementedError(
                f"embedding_regularizer must be None, got {embedding_regularizer!r}: add its value "
                "to the loss"
            )
        if collect_stats:
            raise NotImplementedError(f"collect_stats must be None or False; use {theirs}")
        self.temperature = temperature
        self.distance = distance
        self.reducer = reducer
        self.normalize = _is_cosine(distance)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            embeddings: [N, D], floating.
            labels: [N] integers.
            indices_tuple: Must be None: the pairs are those of the labels.
            ref_emb: [M, D]: other rows, to which the embeddings are compared; None: each other.
            ref_labels: [M] integers, of ``ref_emb``.

        Raises:
            TypeError: If an argument has the wrong type or dtype.
            ValueError: If a shape is not as above, or labels are missing.
            NotImplementedError: If ``indices_tuple`` is given.
        """
        if indices_tuple is not None:
            raise NotImplementedError(
                "indices_tuple must be None: the pairs of a miner are not those of labels, so they "
                f"need pytorch_metric_learning.losses.{type(self).__name__}"
            )
        if labels is None:
            raise ValueError("labels are required, got None")
        if (ref_emb is None) != (ref_labels is None):
            raise ValueError("ref_emb and ref_labels are required together")
        check_matrix("embeddings", embeddings, "N")
        if ref_emb is not None:
            check_columns("ref_emb", ref_emb, "embeddings", embeddings)
        device = embeddings.device
        label = _on_device("labels", labels, len(embeddings), device)
        if ref_emb is not None and ref_labels is not None:
            others = _on_device("ref_labels", ref_labels, len(ref_emb), device)
            label = torch.cat([label, others])
        check_ids("labels", label, len(label), device)
        label = numbers_of(label)
        # With one object for both labels, the library takes row i and column i for the same row.
        same = ref_labels is None or ref_labels is labels
        pairs = PositivePairs(label, len(embeddings), same)
        if pairs.none_to_compare():
            return (embeddings * 0).sum()
        return self._loss(embeddings, ref_emb, label, pairs)

    def _loss(self, x: Tensor, y: Tensor | None, label: Tensor, pairs: PositivePairs) -> Tensor:
        raise NotImplementedError

    def _rows(
        self, x: Tensor, y: Tensor | None, label: Tensor, denominator: Denominator
    ) -> tuple[Tensor, Tensor]:
        """Return loss and lse of the rows of x."""
        options = Options.of(self.temperature, "mean", self.normalize, None, "auto")
        loss, lse = row_losses(x, y, options, label=label, denominator=denominator)
        return loss[: len(x)], lse[: len(x)]


class NTXentLoss(_LabelLoss):
    r"""``pytorch_metric_learning.losses.NTXentLoss``: the mean over all positive pairs (i, p).

    Other positives are not in a pair's denominator: with N(i) the rows with another label

    .. math:: \ell_{ip} = -\log \left(\frac{\exp(s_{ip} / T)}
              {\exp(s_{ip} / T) + \sum_{n \in N(i)} \exp(s_{in} / T)} + \mathrm{tiny}\right)

    With one positive for each row that is :func:`simclr_ext.nt_xent_loss`. The smallest number of
    the dtype, tiny, bounds a pair's loss: by 87.3 in float32.

    Takes O(N D) memory and the time of N^2 D + P D operations for P positive pairs. If P is larger
    than 8 N (classes of more than 9 rows), pairs are processed in chunks of that size, and a second
    time in the backward pass.

    Args:
        temperature: T > 0.
        distance: None or ``CosineSimilarity()``: cosines. ``DotProductSimilarity(
            normalize_embeddings=False)``: dot products.
        reducer: None or ``MeanReducer()``.
        embedding_regularizer: Must be None.
        embedding_reg_weight: Of no effect without a regularizer.
        collect_stats: Must be None or False.

    Raises:
        TypeError: If the temperature is no number.
        ValueError: If the temperature is not positive.
        NotImplementedError: If another argument is not as above.

    Example:
        >>> embeddings, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
        >>> round(NTXentLoss()(embeddings, labels).item(), 4)  # log(3): all similarities are 0
        1.0986

    Source: SimCLR (arXiv 2002.05709), equation 1, for one positive for each row.
    """

    reducer_name = "MeanReducer"

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        distance: Any = None,
        reducer: Any = None,
        embedding_regularizer: None = None,
        embedding_reg_weight: float = 1,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(
            temperature,
            distance=distance,
            reducer=reducer,
            embedding_regularizer=embedding_regularizer,
            embedding_reg_weight=embedding_reg_weight,
            collect_stats=collect_stats,
        )

    def _loss(self, x: Tensor, y: Tensor | None, label: Tensor, pairs: PositivePairs) -> Tensor:
        _, lse = self._rows(x, y, label, "negatives")
        rows = F.normalize(x, dim=1) if self.normalize else x
        columns = rows if y is None else F.normalize(y, dim=1) if self.normalize else y
        chunk = PAIRS_PER_ROW * len(label)
        if pairs.count <= chunk:
            total = self._sum(rows, columns, lse, *pairs.between(0, pairs.count))
        else:
            total = lse.new_zeros(())
            for begin in range(0, pairs.count, chunk):
                anchor, positive = pairs.between(begin, min(begin + chunk, pairs.count))
                total = total + checkpoint(
                    self._sum,
                    rows,
                    columns,
                    lse,
                    anchor,
                    positive,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
        return (total / pairs.count).to(_result_dtype(rows, columns))

    def _sum(
        self, rows: Tensor, columns: Tensor, lse: Tensor, anchor: Tensor, positive: Tensor
    ) -> Tensor:
        """Return the sum of the losses of pairs of a row and a column."""
        dtype = _result_dtype(rows, columns)
        x = rows.to(dtype).index_select(0, anchor)
        y = columns.to(dtype).index_select(0, positive)
        logit = (x * y).sum(1) / self.temperature
        difference = lse.index_select(0, anchor) - logit
        losses = torch.logaddexp(difference, torch.zeros_like(difference))
        tiny = torch.full_like(losses, torch.finfo(dtype).tiny).log()
        return -torch.logaddexp(-losses, tiny).sum()


class SupConLoss(_LabelLoss):
    r"""``pytorch_metric_learning.losses.SupConLoss``: SupCon, the mean of the losses above 0.

    The losses of :func:`simclr_ext.sup_con_loss`, averaged over the rows whose loss is above 0: a
    row without positives does not count, nor one whose loss is 0 but for rounding, which may differ
    from the library's.

    Args:
        temperature: T > 0.
        distance: As in `NTXentLoss`.
        reducer: None or ``AvgNonZeroReducer()``.
        embedding_regularizer: Must be None.
        embedding_reg_weight: Of no effect without a regularizer.
        collect_stats: Must be None or False.

    Raises:
        TypeError: If the temperature is no number.
        ValueError: If the temperature is not positive.
        NotImplementedError: If another argument is not as above; by a call, if ``ref_labels`` is
            the same object as ``labels``, which means that row i and column i are the same row.

    Example:
        >>> embeddings, labels = torch.eye(4), torch.tensor([0, 0, 1, 2])
        >>> round(SupConLoss()(embeddings, labels).item(), 4)  # log(3): all similarities are 0
        1.0986

    Source: SupCon (arXiv 2004.11362), equation 2.
    """

    reducer_name = "AvgNonZeroReducer"

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        distance: Any = None,
        reducer: Any = None,
        embedding_regularizer: None = None,
        embedding_reg_weight: float = 1,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(
            temperature,
            distance=distance,
            reducer=reducer,
            embedding_regularizer=embedding_regularizer,
            embedding_reg_weight=embedding_reg_weight,
            collect_stats=collect_stats,
        )

    def _loss(self, x: Tensor, y: Tensor | None, label: Tensor, pairs: PositivePairs) -> Tensor:
        if y is not None and pairs.same:
            raise NotImplementedError(
                "ref_labels must not be the object that labels is, which leaves out the pairs of "
                "row i and column i: pass labels.clone() for all pairs"
            )
        losses, _ = self._rows(x, y, label, "all")
        counted = losses > 0
        return torch.where(counted, losses, 0).sum() / counted.sum().clamp(min=1)


class SelfSupervisedLoss(nn.Module):
    """``pytorch_metric_learning.losses.SelfSupervisedLoss``: labels for two views.

    Args:
        loss: `NTXentLoss` or `SupConLoss`, or any loss that takes their arguments.
        symmetric: Whether all rows are compared with each other, or ``embeddings`` with
            ``ref_emb`` alone.

    Example:
        >>> z = torch.eye(4)
        >>> round(SelfSupervisedLoss(NTXentLoss(0.5))(z, z).item(), 4)  # log(e^2 + 6) - 2
        0.5944
    """

    def __init__(self, loss: nn.Module, symmetric: bool = True) -> None:
        super().__init__()
        self.loss = loss
        self.symmetric = symmetric

    def forward(self, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        """Return the loss of the views ``embeddings`` and ``ref_emb``, [N, D] each."""
        labels = torch.arange(len(embeddings), device=embeddings.device)
        if self.symmetric:
            loss: Tensor = self.loss(torch.cat([embeddings, ref_emb]), labels.repeat(2))
        else:
            loss = self.loss(
                embeddings=embeddings, labels=labels, ref_emb=ref_emb, ref_labels=labels.clone()
            )
        return loss


def _is_cosine(distance: Any) -> bool:
    """Return whether similarities are cosines; if not, they are dot products."""
    if distance is None:
        return True
    name = type(distance).__name__
    if name in ("CosineSimilarity", "DotProductSimilarity") and distance.power == 1:
        if not distance.normalize_embeddings:
            return False
        if distance.p == 2:
            return True
    raise NotImplementedError(
        "distance must be None, CosineSimilarity() or DotProductSimilarity(), with p=2 and "
        f"power=1, got {distance!r}; other distances need pytorch-metric-learning's own loss"
    )


def _on_device(name: str, labels: Tensor, rows: int, device: torch.device) -> Tensor:
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} must be a tensor of integers, got {type(labels).__name__}")
    if labels.shape != (rows,):
        raise ValueError(f"{name} must be [{rows}], got shape {tuple(labels.shape)}")
    return labels.to(device)


def _result_dtype(x: Tensor, y: Tensor) -> torch.dtype:
    return compute_dtype(torch.promote_types(x.dtype, y.dtype))
