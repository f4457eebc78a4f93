"""The options of the commands on a trained model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simclr_ext.options.checks import (
    check,
    check_at_least,
    check_null_or_at_least,
    check_positive,
    check_scale,
    check_types,
)

Probe = Literal["knn", "lbfgs", "sgd"]
Format = Literal["state-dict", "safetensors", "pt2", "onnx", "hub"]


@dataclass(frozen=True)
class SgdConfig:
    """Supervised training by SGD with Nesterov momentum and a cosine decay.

    Attributes:
        epochs: Passes over the labeled images; null: the paper's number for the command.
        batch_size: Images per step.
        learning_rate: Base rate; the initial rate is learning_rate * batch_size / 256.
        momentum: Nesterov momentum.
    """

    epochs: int | None = None
    batch_size: int = 256
    learning_rate: float = 0.1
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_types(self, "sgd.")
        check_null_or_at_least("sgd.epochs", self.epochs, 1)
        check_at_least("sgd.batch_size", self.batch_size, 2)
        check_positive("sgd.learning_rate", self.learning_rate)
        check(0 < self.momentum < 1, "sgd.momentum", self.momentum, "in (0, 1)")


@dataclass(frozen=True)
class CheckpointConfig:
    """The options of every command on a trained model.

    Attributes:
        checkpoint: A run folder, of which checkpoint.pt is read, or a checkpoint file.
        out: Folder of the results, created if needed; null: one beside the checkpoint.
    """

    checkpoint: str
    out: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check(self.checkpoint != "", "checkpoint", self.checkpoint, "the path of a file or folder")
        check(self.out != "", "out", self.out, "null or the path of a folder")


@dataclass(frozen=True)
class DataConfig(CheckpointConfig):
    """The options of every command that reads images for a trained model.

    Attributes:
        data: Data set, as for `train`; null: the one that the model was trained on. Another one
            shows how well the representation transfers.
        data_root: Folder of the named data sets, such as cifar10, and of downloads; null: the
            training's.
        download: Whether to download the data set if it is missing.
        on_broken: What becomes of images that cannot be read: "stop", or "skip": they are left out.
        workers: Threads that decode images of folders; results do not depend on their number.
        device: PyTorch device, such as "cpu" or "cuda".
        threads: CPU threads of PyTorch, at most one per processor; null: PyTorch's own choice.
    """

    data: str | None = None
    data_root: str | None = None
    download: bool = False
    on_broken: Literal["stop", "skip"] = "stop"
    workers: int = 2
    device: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.data != "", "data", self.data, "null or a data set")
        check_at_least("workers", self.workers, 1)
        check_null_or_at_least("threads", self.threads, 1)


@dataclass(frozen=True)
class SeededConfig(DataConfig):
    """The options of every such command that draws random numbers.

    Attributes:
        seed: Seed of everything random.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_seed(self.seed)


@dataclass(frozen=True)
class EvalConfig(SeededConfig):
    """Evaluation of frozen features.

    Attributes:
        also: Further checkpoints of the same recipe, from runs with other seeds: the results are
            the mean and the standard deviation over all.
        probes: "knn", weighted k-NN; "lbfgs", logistic regression; "sgd", the paper's linear
            evaluation (appendix B.6; 90 epochs unless `sgd.epochs` is set).
        baselines: Whether raw pixels and the encoder before training are evaluated as well; raw
            pixels not by "sgd" with `augment`, which needs an encoder.
        augment: Whether "sgd" trains on random crops and flips, as in the paper, in every epoch; if
            not, on the features of whole images, computed once.
        neighbors: k of "knn".
        temperature: Temperature of the votes of "knn".
        c: Values of scikit-learn's C for "lbfgs"; if there are several, the one that is best on a
            held-out fifth of the training images is taken.
        head_layers: Linear layers of the projection head that are part of the representation:
            0, SimCLR; 1, SimCLR v2 for larger models.
        cache: Whether features are cached beside the checkpoint.
        sgd: The training of "sgd".
    """

    also: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ("knn", "lbfgs")
    baselines: bool = True
    augment: bool = True
    neighbors: int = 20
    temperature: float = 0.07
    c: tuple[float, ...] = (10.0,)
    head_layers: int = 0
    cache: bool = True
    sgd: SgdConfig = field(default_factory=SgdConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        ok = len(self.probes) > 0 and len(set(self.probes)) == len(self.probes)
        check(ok, "probes", self.probes, "one or more, each once")
        check_at_least("neighbors", self.neighbors, 1)
        check_scale("temperature", self.temperature)
        check(len(self.c) > 0, "c", self.c, "one or more numbers")
        for c in self.c:
            check_positive("c", c)
        check_at_least("head_layers", self.head_layers, 0)


@dataclass(frozen=True)
class FinetuneConfig(SeededConfig):
    """Fine-tuning of all weights with labels (appendix B.5).

    Attributes:
        labels: Share of the labels of every class, in (0, 1]; the paper: 0.01 and 0.1.
        seeds: Repetitions, each with other labeled images and another initial classifier; the
            results are the mean and the standard deviation over them.
        scratch: Whether to start from the encoder before training instead, for comparison.
        head_layers: As for `eval`.
        sgd: The training. `epochs` null: the paper's 60 for up to 1 % of the labels, 30 for more.
    """

    labels: float = 0.1
    seeds: int = 1
    scratch: bool = False
    head_layers: int = 0
    sgd: SgdConfig = field(default_factory=lambda: SgdConfig(learning_rate=0.05))

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.labels <= 1, "labels", self.labels, "a share in (0, 1]")
        check_at_least("seeds", self.seeds, 1)
        check_at_least("head_layers", self.head_layers, 0)


@dataclass(frozen=True)
class EmbedConfig(DataConfig):
    """Representations of all images.

    Attributes:
        format: "npy", three arrays for each part of the data set, or "parquet", one table.
        head_layers: Linear layers of the projection head that are part of the representation.
    """

    format: Literal["npy", "parquet"] = "npy"
    head_layers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("head_layers", self.head_layers, 0)


@dataclass(frozen=True)
class ExportConfig(CheckpointConfig):
    """The encoder in other formats.

    Attributes:
        formats: "state-dict" (.pt), "safetensors", "pt2" (torch.export), "onnx", "hub" (a folder in
            the form of timm's models on the Hugging Face hub). The first two use torchvision's
            parameter names if the encoder is one of its models.
        seed: Seed of the images on which the written files are compared with the encoder.
    """

    formats: tuple[Format, ...] = ("state-dict",)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_seed(self.seed)
        ok = len(self.formats) > 0 and len(set(self.formats)) == len(self.formats)
        check(ok, "formats", self.formats, "one or more, each once")


@dataclass(frozen=True)
class PagesConfig(SeededConfig):
    """Pictures of the representations.

    Attributes:
        queries: Test images on the page of nearest neighbors.
        neighbors: Training images beside each of them; neighbors of each image of the map.
        map_images: Maximum number of images on the map, chosen at random if there are more; 0: no
            map.
    """

    queries: int = 20
    neighbors: int = 8
    map_images: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("queries", self.queries, 1)
        check_at_least("neighbors", self.neighbors, 1)
        check_at_least("map_images", self.map_images, 0)


@dataclass(frozen=True)
class NeighborsConfig(DataConfig):
    """Images of a data set that are most like others.

    Attributes:
        queries: The images to find neighbors for, in any form of `data`: an image, a folder, a
            list. The neighbors are the training images of `data`.
        neighbors: Neighbors of each.
        pictures: Queries that are shown on the page; all are in the table.
    """

    queries: str = field(kw_only=True)
    neighbors: int = 8
    pictures: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.queries != "", "queries", self.queries, "a data set")
        check_at_least("neighbors", self.neighbors, 1)
        check_at_least("pictures", self.pictures, 0)


@dataclass(frozen=True)
class CheckConfig:
    """What is looked for in a data set.

    Attributes:
        data: Data set, as for `train`.
        data_root: Folder of the named data sets.
        decode: Whether every image is decoded; if not, only the files' headers are read, which is
            faster and does not find all broken images.
        duplicates: Whether images with the same content are looked for.
        workers: Threads that read.
    """

    data: str
    data_root: str = "data"
    decode: bool = True
    duplicates: bool = True
    workers: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        check(self.data != "", "data", self.data, "a data set")
        check_at_least("workers", self.workers, 1)


def _check_seed(seed: int) -> None:
    check(0 <= seed < 2**32, "seed", seed, "in [0, 2**32)")
