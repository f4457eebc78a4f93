"""PyTorch's threads are set for a while, and put back whatever ends it."""

import pytest
import torch

from simclr_ext.options.threads import threads


@pytest.mark.parametrize("count", [None, 1, 3])
def test_threads_are_put_back(count: int | None) -> None:
    before = torch.get_num_threads()
    expected = count or before

    def fail() -> None:
        with threads(count) as found:
            assert torch.get_num_threads() == found == expected
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before
