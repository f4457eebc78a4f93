"""What `simclr-ext` does with the trainer, a file per command."""
