"""lightly's contrastive losses: ``from simclr_ext.compat.lightly import NTXentLoss``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_ext._checks.scalars import as_temperature, check_positive
from simclr_ext.compat._refuse import processes, refuse_processes, world
from simclr_ext.losses import dcl_loss, info_nce_loss, nt_xent_loss

WeightFunction = Callable[[Tensor, Tensor], Tensor]


class NTXentLoss(nn.Module):
    r"""``lightly.loss.NTXentLoss``: NT-Xent, or with a memory bank MoCo's loss.

    Without a bank the loss of :func:`simclr_ext.nt_xent_loss`. With a bank b of K keys, and s the
    cosine similarity, the mean over the N rows of ``out0`` of

    .. math:: \ell_i = -\log \frac{\exp(s(q_i, k_i) / T)}
              {\exp(s(q_i, k_i) / T) + \sum_{j=1}^K \exp(s(q_i, b_j) / T)}

    The rows of ``out1`` then replace the oldest of the bank, if ``out0`` requires a gradient. A
    batch that reaches the end of the bank fills it; the rest of the batch is dropped, and the next
    one begins at the start.

    Args:
        temperature: T > 0; lightly also takes T < 0, which is refused.
        memory_bank_size: (K, D), or 0 for no bank. K alone, which lightly 1.6 refuses, takes D from
            the first batch, as lightly 1.5 does.
        gather_distributed: Whether other processes' rows are negatives, too; not with a bank.

    The bank is the buffers ``memory_bank.bank`` [K, D] and ``memory_bank.bank_ptr`` [1]. As in
    lightly they are not persistent: ``.to()`` moves them, and ``state_dict()`` is without them. The
    same random numbers fill them at the start.

    Raises:
        TypeError: If the temperature is no number.
        ValueError: If the temperature or the size of the bank is not as above.
        NotImplementedError: By a call, if ``gather_distributed``, there are several processes and a
            bank.

    Example:
        >>> criterion = NTXentLoss(temperature=0.1, memory_bank_size=(4096, 128))
        >>> out0, out1 = torch.randn(256, 128, requires_grad=True), torch.randn(256, 128)
        >>> criterion(out0, out1).shape, criterion.memory_bank.bank_ptr
        (torch.Size([]), tensor([256]))

    Source: SimCLR (arXiv 2002.05709), equation 1; MoCo (arXiv 1911.05722), equation 1.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__()
        as_temperature(temperature)
        _check_gathering(gather_distributed)
        self.temperature = temperature
        self.memory_bank = MemoryBank(memory_bank_size)
        self.gather_distributed = gather_distributed

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of the views ``out0`` and ``out1``, [N, D] each."""
        several = processes() if self.gather_distributed else 1
        if self.memory_bank.size[0] == 0 and several > 1:
            # lightly's value is the mean over this process's rows, not over all.
            everyone = world(several)
            rows = nt_xent_loss(out0, out1, self.temperature, group=everyone, reduction="none")
            return rows.mean()
        if self.memory_bank.size[0] == 0:
            return nt_xent_loss(out0, out1, self.temperature)
        refuse_processes("gather_distributed=True with a memory bank", several)
        queries, keys = F.normalize(out0, dim=1), F.normalize(out1, dim=1)
        bank = self.memory_bank.negatives(keys)
        # Not normalized again: a bank may have been loaded with any rows.
        loss = info_nce_loss(
            queries, keys, self.temperature, negatives=bank, in_batch=False, normalize=False
        )
        if out0.requires_grad:
            self.memory_bank.enqueue(keys)
        return loss


class MemoryBank(nn.Module):
    """A ring of the latest keys.

    Args:
        size: (K, D), K or 0, as the loss takes it.
    """

    bank: Tensor  # [K, D]
    bank_ptr: Tensor  # [1]: where the next batch begins

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = (size,) if isinstance(size, int) else tuple(size)
        if len(self.size) not in (1, 2) or min(self.size) < 0:
            raise ValueError(
                f"memory_bank_size must be (K, D), K or 0, all at least 0, got {size!r}"
            )
        self.register_buffer("bank", torch.empty(self.size), persistent=False)
        self.register_buffer("bank_ptr", torch.zeros(1, dtype=torch.long), persistent=False)
        if len(self.size) == 2:
            self._fill(self.size[1])

    def negatives(self, keys: Tensor) -> Tensor:
        """Return a copy of the bank [K, D] on the device of the keys."""
        if self.bank.ndim == 1:
            self._fill(keys.shape[1])
        return self.bank.to(keys.device, copy=True)  # the graph holds it; the bank changes

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write keys [N, D] over the oldest."""
        begin, size = int(self.bank_ptr), self.size[0]
        end = min(begin + len(keys), size)
        self.bank[begin:end] = keys[: end - begin]
        self.bank_ptr.fill_(0 if end == size else end)

    def _fill(self, dim: int) -> None:
        rows = torch.randn(self.size[0], dim)
        self.bank = F.normalize(rows.type_as(self.bank), dim=1)


class DCLLoss(nn.Module):
    r"""``lightly.loss.DCLLoss``: NT-Xent without the positive in the denominator.

    .. math:: \ell_i = -w_i \frac{s_{i,p(i)}}{T} + \log \sum_{j \ne i, p(i)} \exp(s_{ij} / T)

    Args:
        temperature: T > 0.
        weight_fn: Called with the normalized views, in both orders; returns w [N]. None: 1.
        gather_distributed: Whether other processes' rows are negatives, too.

    Raises:
        TypeError: If the temperature is no number.
        ValueError: If the temperature is not positive, or by a call with N < 2 in all.

    Example:
        >>> criterion = DCLLoss(0.5)
        >>> round(criterion(torch.eye(4), torch.eye(4)).item(), 4)  # log(6) - 2
        -0.2082

    Source: DCL (arXiv 2110.06848), equation 6.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        weight_fn: WeightFunction | None = None,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__()
        as_temperature(temperature)
        _check_gathering(gather_distributed)
        self.temperature = temperature
        self.weight_fn = weight_fn
        self.gather_distributed = gather_distributed

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of the views ``out0`` and ``out1``, [N, D] each."""
        group = world(processes()) if self.gather_distributed else None
        # The mean over this process's rows, as in lightly.
        loss = dcl_loss(out0, out1, self.temperature, group=group, reduction="none").mean()
        if self.weight_fn is None:
            return loss
        out0, out1 = F.normalize(out0, dim=1), F.normalize(out1, dim=1)
        weights = 0.5 * (self.weight_fn(out0, out1) + self.weight_fn(out1, out0))
        positives = (out0 * out1).sum(1) / self.temperature
        return loss + ((1 - weights) * positives).mean()


class DCLWLoss(DCLLoss):
    r"""``lightly.loss.DCLWLoss``: DCLLoss with less weight on pairs that are similar.

    .. math:: w_i = 2 - \frac{\exp(s_{i,p(i)} / \sigma)}
              {\frac{1}{N} \sum_k \exp(s_{k,p(k)} / \sigma)}

    As in lightly no gradient flows through w; through that of :func:`simclr_ext.dcl_loss` it does.

    Args:
        temperature: T > 0.
        sigma: Concentration of the weights, > 0.
        gather_distributed: As in `DCLLoss`.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If the temperature or sigma is not positive, or by a call with N < 2 in all.

    Example:
        >>> criterion = DCLWLoss(0.5)  # all pairs are alike: w = 1
        >>> round(criterion(torch.eye(4), torch.eye(4)).item(), 4)
        -0.2082

    Source: DCL (arXiv 2110.06848), equation 7.
    """

    def __init__(
        self, temperature: float = 0.1, sigma: float = 0.5, gather_distributed: bool = False
    ) -> None:
        check_positive("sigma", sigma)
        weights = partial(negative_mises_fisher_weights, sigma=sigma)
        super().__init__(temperature, weights, gather_distributed)


def negative_mises_fisher_weights(out0: Tensor, out1: Tensor, sigma: float = 0.5) -> Tensor:
    """Return the weights w [N] of `DCLWLoss`, without a gradient.

    Args:
        out0: Normalized first views, [N, D].
        out1: Normalized second views, [N, D].
        sigma: Concentration, > 0.
    """
    similarity = (out0.detach() * out1.detach()).sum(1)
    return 2 - len(similarity) * torch.softmax(similarity / sigma, 0)


def _check_gathering(gather_distributed: bool) -> None:
    if gather_distributed and not torch.distributed.is_available():
        raise ValueError(
            "gather_distributed=True needs torch.distributed, which this torch is without"
        )
