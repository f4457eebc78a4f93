"""The training: its state, its loop, and the files of the run folder."""
