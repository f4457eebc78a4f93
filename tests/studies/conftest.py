"""Fixtures of the studies' tests: those of the trainer's."""

from tests.trainer.conftest import one_thread

__all__ = ["one_thread"]
