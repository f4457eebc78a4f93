"""A command on a trained model has no option that it does not read, and takes nothing else."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer import (
    EmbedConfig,
    ExportConfig,
    NeighborsConfig,
    PagesConfig,
    api,
    draw_pages,
    embed_images,
    export_encoder,
    find_neighbors,
)


def spied_on(config: Any) -> set[str]:
    """Return a set to which the name of each field of a configuration is added when it is read."""
    read = set()

    class Spy(type(config)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    object.__setattr__(config, "__class__", Spy)
    return read


@pytest.mark.parametrize(
    ("config", "run", "options"),
    [
        (ExportConfig, export_encoder, {}),
        (EmbedConfig, embed_images, {}),
        (NeighborsConfig, find_neighbors, {"queries": "tiny.npz"}),
        (PagesConfig, draw_pages, {"map_images": 10}),
    ],
    ids=["export", "embed", "neighbors", "pages"],
)
def test_every_option_is_read(
    write_checkpoint: Callable[..., Path],
    write_npz: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    config: Callable[..., Any],
    run: Callable[[Any], object],
    options: dict[str, Any],
) -> None:
    path = write_checkpoint()
    monkeypatch.chdir(write_npz(test_images=None, test_labels=None).parent)
    given = config(str(path), **options)
    fields = {field.name for field in dataclasses.fields(given)}
    read = spied_on(given)
    run(given)
    assert fields <= read, f"not read: {', '.join(sorted(fields - read))}"


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (api.train, "TrainConfig"),
        (api.check_data, "CheckConfig"),
        (api.evaluate_checkpoint, "EvalConfig"),
        (api.finetune_checkpoint, "FinetuneConfig"),
        (api.embed_images, "EmbedConfig"),
        (api.export_encoder, "ExportConfig"),
        (api.draw_pages, "PagesConfig"),
        (api.find_neighbors, "NeighborsConfig"),
    ],
)
def test_what_is_no_configuration_is_named(function: Callable[..., object], kind: str) -> None:
    with pytest.raises(ConfigError, match=f"config must be a {kind}, got str"):
        function("digits")
