"""What the losses do with a group: they check, agree with the other ranks, and then compute."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simclr_ext._checks.pairs import EXCHANGES
from simclr_ext._checks.scalars import check_temperature_value, operator_scalar
from simclr_ext.backends.ops import register
from simclr_ext.losses._options import Options

if TYPE_CHECKING:
    from simclr_ext.distributed import Exchange, Group, Union


def errors_reach_all(group: Group | None) -> AbstractContextManager[None]:
    """Return a context for the checks of arguments: what it raises, all ranks raise.

    It ends before the ranks agree: the others wait for this rank there.
    """
    return contextlib.nullcontext() if group is None else _ErrorsReachAll(group)


class _ErrorsReachAll:
    def __init__(self, group: Group) -> None:
        from simclr_ext.distributed.union import identity  # torch may lack torch.distributed

        identity(group)  # an error of the group itself can reach nobody
        self._group = group

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            from simclr_ext.distributed import Ranks, raise_on_all

            raise_on_all(Ranks.of(self._group), error)


def check_exchange(exchange: str) -> None:
    """Raise ValueError unless it is one of EXCHANGES."""
    if exchange not in EXCHANGES:
        raise ValueError(f"exchange must be one of {EXCHANGES}, got {exchange!r}")


def check_group(
    group: Group | None,
    exchange: Exchange,
    options: Options,
    z: Tensor,
    *,
    labels: str | None = None,
) -> None:
    """Raise ValueError if the loss of these rows cannot be computed over a group.

    Args:
        group: As the losses take it; None: only the name of the exchange is checked.
        exchange: As the losses take it.
        options: Those of the loss.
        z: Its rows.
        labels: What was given that makes rows of other ranks positive.
    """
    check_exchange(exchange)
    if group is None:
        return
    if labels is not None and exchange != "gather":
        raise ValueError(f"exchange must be 'gather' with {labels}, got {exchange!r}")
    backend = options.chosen_backend(z)
    if backend == "reference":
        raise ValueError(
            f"backend must be 'auto', 'fused' or 'tiled' with a group, got {backend!r}"
        )
    if backend == "fused":
        register()
    if not options.of_rows and not torch.compiler.is_compiling():
        check_temperature_value(operator_scalar("temperature", options.temperature, z.device))


def agreed(
    loss: str,
    group: Group | None,
    exchange: Exchange,
    parts: tuple[Tensor, Tensor],
    sizes: tuple[int, int],
    options: Options,
    *,
    scalars: dict[str, float | Tensor] | None = None,
    facts: dict[str, object] | None = None,
    least: int = 1,
) -> tuple[Union | None, Options]:
    """Return the union of the ranks' batches, None without a group, and the options for it.

    Args:
        loss: Its name.
        group: As the loss takes it.
        exchange: As the loss takes it.
        parts: Rows and columns, for their dtypes.
        sizes: The numbers of rows and of columns of this rank.
        options: Those of the loss.
        scalars: Those that all ranks share, instead of the temperature.
        facts: What else must be the same on all ranks.
        least: The least number of rows of all ranks.
    """
    if group is None:
        return None, options
    from simclr_ext.distributed import Union, number_of

    if scalars is None:
        scalars = {"temperature": 1.0 if options.of_rows else options.temperature}
    x, y = parts
    dtypes = (x.dtype, y.dtype)
    options = options.changed(eps=options.eps_for(*dtypes))
    # First what the names of the others depend on.
    first = {"loss": number_of("loss", loss), "a temperature for each row": options.of_rows}
    values = {
        name: torch.scalar_tensor(value, dtype=torch.float64) for name, value in first.items()
    }
    for name, scalar in scalars.items():
        values[name] = operator_scalar(name, scalar, x.device)
    learned = [isinstance(s, Tensor) and s.requires_grad for s in scalars.values()]
    recorded = torch.is_grad_enabled()
    all_facts: dict[str, object] = {
        "D": x.shape[1],
        "dtype": torch.promote_types(*dtypes),
        "reduction": options.reduction,
        "normalize": options.normalize,
        "eps": options.eps,
        "exchange": exchange,
        "requires_grad of the rows": recorded and any(z.requires_grad for z in parts),
        "requires_grad of the scalars": recorded and any(learned),
        **(facts or {}),
    }
    numbers = {name: number_of(name, value) for name, value in all_facts.items()}
    union = Union.of(group, exchange, sizes, values, numbers, least)
    if not options.of_rows:
        options = options.changed(temperature=union.shared(options.temperature))
    return union, options
