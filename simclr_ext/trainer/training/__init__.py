"""The training: its state, its loop, and what a run leaves in its folder."""
