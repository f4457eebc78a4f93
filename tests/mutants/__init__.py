"""Planted faults, and a runner that checks that the tests find each: `python -m tests.mutants`."""
