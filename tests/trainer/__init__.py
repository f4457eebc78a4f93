"""Tests of simclr_ext.trainer, a file per module."""
