"""The network, and checkpoints of it."""
