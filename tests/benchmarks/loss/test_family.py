"""The benchmark of the family: our losses are those that they are compared with."""

import pytest

from benchmarks.loss.family import FAMILY, TEMPERATURE, libraries
from simclr_ext.bench.measure import check, views


@pytest.mark.parametrize("name", FAMILY)
def test_all_contestants_compute_one_loss(name: str) -> None:
    fused, dense = FAMILY[name]
    for loss in (fused, *(loss for _, loss in libraries(name))):
        check(loss, dense, views(130, 8), TEMPERATURE)
