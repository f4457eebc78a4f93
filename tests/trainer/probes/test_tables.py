"""The table and the JSON of the results."""

import json
from pathlib import Path

from simclr_ext.trainer.probes.scores import Accuracy, Scores
from simclr_ext.trainer.probes.tables import format_table, read_scores, write_scores

SCORES = {
    "raw pixels": Scores(
        Accuracy((0.8, 0.9)), Accuracy((0.5, 0.5)), Accuracy((0.9876,)), Accuracy((1.0,))
    ),
    "trained encoder": Scores(
        Accuracy((0.9, 0.9)), Accuracy((0.85, 0.95)), Accuracy((0.99,)), Accuracy((0.97,))
    ),
}


def test_table() -> None:
    lines = format_table(SCORES).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4]]
    assert cells == [
        ["raw pixels", "85.0 ± 7.1", "50.0 ± 0.0", "98.8", "100.0"],
        ["trained encoder", "90.0 ± 0.0", "90.0 ± 7.1", "99.0", "97.0"],
    ]
    assert len({len(line) for line in lines[:4]}) == 1  # aligned
    assert "standard deviation over 10 draws" in lines[-1]


def test_json_has_every_draw_and_the_protocol(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_scores(path, SCORES, step=12)
    assert read_scores(path) == (12, SCORES)
    contents = json.loads(path.read_text())
    assert contents["protocol"]["labels_per_class"] == 5
    few = contents["test_accuracy"]["raw pixels"]["linear_few"]
    assert few["draws"] == [0.8, 0.9]
    assert abs(few["mean"] - 0.85) < 1e-12
    assert contents["test_accuracy"]["trained encoder"]["knn_all"]["mean"] == 0.97
