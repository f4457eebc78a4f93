"""The losses and the trainer in programs that you may start from; docs/examples.md lists them."""
