"""A study's configuration: invalid values, and the folder of the results."""

from pathlib import Path

import pytest

from simclr_ext.options.errors import ConfigError
from simclr_ext.studies import STUDIES, StudyConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"study": "alchemy"}, "study must be one of augmentations, .*tsne, got 'alchemy'"),
        ({"scale": "huge"}, "scale must be"),
        ({"data": ""}, "data must be"),
        ({"out": ""}, "out must be"),
        ({"seeds": 0}, "seeds must be null or at least 1, got 0"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"threads": 0}, "threads must be null or at least 1, got 0"),
        ({"jobs": 1.5}, "jobs must be an integer, got 1.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StudyConfig(**{"study": "temperature", **options})  # type: ignore[arg-type]


def test_results_are_named_after_study_data_and_scale() -> None:
    config = StudyConfig("temperature", data="images/birds.npz", scale="cpu")
    assert config.folder == Path("studies/temperature-birds-cpu")
    assert StudyConfig("temperature", out="~/here").folder == Path.home() / "here"


def test_every_name_has_a_module() -> None:
    folder = Path(__file__).parents[2] / "simclr_ext" / "studies" / "paper"
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {"--init--"}
    assert sorted(files) == list(STUDIES)
