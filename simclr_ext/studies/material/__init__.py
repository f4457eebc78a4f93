"""Shared by several studies: training, transformations, losses, statistics over seeds."""
