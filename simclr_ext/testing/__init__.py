"""The allowed error against float64: one error budget for tests, GPU check and doctor."""

from simclr_ext.testing.budget import ROUNDINGS, error_budget, error_norm, natural_size

__all__ = ["ROUNDINGS", "error_budget", "error_norm", "natural_size"]
