"""What processes say to each other about a run: errors, results of the first one, signals."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simclr_ext.options.errors import ConfigError, DataError, JobError, PeerError
from simclr_ext.trainer.job import Job, Share, joined
from tests.distributed.processes import Processes

Run = Callable[..., list[Any]]


@pytest.mark.parametrize(("images", "size"), [(7, 1), (7, 3), (8, 2), (3, 3)])
def test_shares_are_contiguous_and_differ_by_at_most_one(images: int, size: int) -> None:
    shares = []
    for rank in range(size):
        job = Job()
        job.rank, job.size = rank, size
        shares.append(job.share(images))
    assert [row for share in shares for row in range(images)[share.rows]] == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_is_a_job_of_its_own() -> None:
    with joined() as job:
        assert (job.rank, job.size, job.group, job.is_first) == (0, 1, None, True)
        assert job.share(5) == Share(0, 5, 5)
        assert job.on_first(lambda: "found") == "found"
        assert job.largest(2, 0) == [2, 0]
        assert list(job.agreed(iter("ab"))) == ["a", "b"]
        with pytest.raises(ValueError, match="mine"), job.agreement():
            raise ValueError("mine")


def fails(rank: int, group: Any, failing: set[int]) -> str:
    with joined() as job, job.agreement():
        if rank in failing:
            raise DataError(f"no images on {rank}")
    return "not reached" if job else ""


def test_the_first_process_with_an_error_raises_it_and_the_others_say_so(three: Run) -> None:
    for failing in ({1}, {0, 2}, {0, 1, 2}):
        first = min(failing)
        for rank, error in enumerate(three(fails, 3, failing)):
            kind = DataError if rank == first else PeerError
            assert type(error) is kind
            text = f"no images on {first}"
            assert str(error) == (text if rank == first else f"rank {first}: {text}")
    assert three(fails, 3, set()) == ["not reached"] * 3


def nested(rank: int, group: Any) -> list[str]:
    told = []
    with joined() as job:
        for place in ("inner", "outer"):
            try:
                with job.agreement():
                    if place == "outer" and rank == 1:
                        raise ValueError("outer")
                    with job.agreement():
                        if place == "inner" and rank == 1:
                            raise ValueError("inner")
            except ValueError as error:
                told.append(f"mine: {error}")
            except PeerError as error:
                told.append(str(error))
        return [*told, str(job.largest(rank)[0])]  # all are still at the same place


def test_an_error_of_an_agreement_within_another_is_told_once(three: Run) -> None:
    other = ["rank 1: inner", "rank 1: outer", "2"]
    assert three(nested, 3) == [other, ["mine: inner", "mine: outer", "2"], other]


def results(rank: int, group: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with joined() as job:
        found["first"] = job.on_first(lambda: {"rank": rank})
        found["largest"] = job.largest(rank, -rank, signal.SIGTERM if rank == 1 else 0)
        try:
            items = (1 / (2 - step) if rank == 2 else step for step in range(4))
            found["items"] = [found.setdefault("last", item) for item in job.agreed(items)]
        except (PeerError, ZeroDivisionError) as error:
            found["items"] = type(error)
        job.use("cpu")
        n = rank + 1
        z = torch.arange(2.0 * n).view(2 * n, 1) + 100 * rank
        found["union"] = job.union(z).flatten().tolist()
        found["sum"] = job.sum(torch.tensor([1.0, rank])).tolist()
        model = nn.BatchNorm1d(2)
        nn.init.constant_(model.weight, float(rank + 5))
        model.running_mean.fill_(rank + 5)
        job.copy_weights(model)
        found["weights"] = [*model.weight.tolist(), *model.running_mean.tolist()]
    return found


def test_what_processes_tell_each_other(three: Run) -> None:
    for rank, found in enumerate(three(results, 3)):
        assert found["first"] == {"rank": 0}
        assert found["largest"] == [2, 0, signal.SIGTERM]
        assert found["items"] is (ZeroDivisionError if rank == 2 else PeerError)
        # First views of ranks 0, 1 and 2, then the second ones.
        first, second = [0, 100, 101, 200, 201, 202], [1, 102, 103, 203, 204, 205]
        assert found["union"] == [*first, *second]
        assert found["sum"] == [3, 3]
        assert found["weights"] == [5.0] * 4


def use(rank: int, group: Any, device: str) -> None:
    with joined() as job:
        job.use(device)


def test_only_devices_of_which_each_process_has_one(three: Run) -> None:
    own, *others = three(use, 3, "cuda:0")
    assert isinstance(own, ConfigError)
    assert "device must be cpu or cuda with several processes, got 'cuda:0'" in str(own)
    assert all(isinstance(error, PeerError) for error in others)


def leave(rank: int, group: Any) -> Tensor | None:
    with joined() as job:
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        job.on_first(lambda: None)
    return None


def test_a_killed_process_ends_the_wait_of_the_others(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    processes = Processes(tmp_path_factory.mktemp("killed"), 3)
    try:
        first, killed, last = processes.run(leave, 3)
    finally:
        processes.close()
    assert isinstance(killed, EOFError)
    for error in (first, last):
        assert isinstance(error, JobError)
        assert str(error).startswith("another process of the job has ended")
