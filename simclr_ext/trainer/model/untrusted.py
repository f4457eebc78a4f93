"""Files of weights that others wrote: they neither run code nor take more memory than their size.

torch.load(weights_only=True) runs no code of a file. But it unpacks what is compressed in it, and
a configuration may name a network of any size.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.config.model import OTHERS
from simclr_ext.trainer.model.simclr import ProjectionHead, SimCLR

_ARCHIVE = b"PK\3\4"  # by this start torch knows an archive from a file of before torch 1.6
# bytearray in a pickle, which torch allows: a few bytes that make any number of zeros.
_BYTEARRAY = b"\nbytearray\n"
_MOST = 1_000_000  # entries of the dictionaries in a file
_FEW = 1000  # layers, which are made and compared in no time
_DEEPEST = 32  # dictionaries in each other


def load_tensors(file: BinaryIO) -> Any:
    """Return what torch.load reads from a file, onto the CPU.

    Raises:
        Exception: Of any kind, if it is not such a file, is compressed, or has more in it than
            tensors and plain values.
    """
    file.seek(0)
    if file.read(len(_ARCHIVE)) == _ARCHIVE:
        _check_stored(file)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if whole.find(_BYTEARRAY) >= 0:
            raise ValueError("it has more than tensors in it")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _check_stored(file: BinaryIO) -> None:
    """Raise ValueError if an archive has more in it than its size; torch compresses nothing."""
    with zipfile.ZipFile(file) as archive:
        inside = sum(member.file_size for member in archive.infolist())
    size = file.seek(0, 2)
    if inside > size:
        raise ValueError(f"{size:,} bytes that become {inside:,}: no file that PyTorch wrote")


def named_tensors(contents: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors in nested dictionaries by their keys, such as "model.conv1.weight".

    Raises:
        ValueError: A tensor is sparse or quantized, or the dictionaries have no end: they hold
            each other.
    """
    return dict(_walk(contents, "", 0, iter(range(_MOST))))


def _walk(
    values: Mapping[Any, Any], prefix: str, depth: int, left: Iterator[int]
) -> Iterator[tuple[str, Tensor]]:
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} dictionaries in each other")
    for name, value in values.items():
        if next(left, None) is None:
            raise ValueError(f"more than {_MOST:,} entries")
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise ValueError(f"{prefix}{name} is not a plain tensor")
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{name}.", depth + 1, left)


def check_network(
    config: ResolvedConfig, encoder: Mapping[str, Any], head: Mapping[str, Any] | None = None
) -> None:
    """Raise an error unless weights fit the network of a configuration, before it takes memory.

    Networks of other libraries have the sizes that these give them.

    Args:
        config: Names the network.
        encoder: Weights of the encoder, by name.
        head: The same of the projection head; None: it is not read from the file.

    Raises:
        RuntimeError: Tensors are missing, have other names or other shapes.
        ValueError: There are fewer tensors than layers.
    """
    model, layers = config.model, 0
    own = not (model.encoder.startswith(OTHERS) or model.encoder == "custom")
    if model.encoder == "small":
        layers = sum(model.blocks)
    if layers > max(_FEW, len(encoder)) or _depth(config) > max(_FEW, len(head or {})):
        raise ValueError("the configuration has more layers than there are weights")
    with torch.device("meta"):  # without memory
        if own:
            network = SimCLR(model, config.channels)
            network.encoder.load_state_dict(encoder, assign=True)
            if head is not None:
                network.head.load_state_dict(head, assign=True)
        elif head is not None and _numbers(ProjectionHead(1, model).state_dict()) > _numbers(head):
            raise ValueError("the configuration's projection head is larger than the weights")


def _depth(config: ResolvedConfig) -> int:
    model = config.model
    return {"none": 0, "linear": 1, "mlp": model.projection_depth}[model.projection]


def _numbers(tensors: Mapping[str, Any]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())
