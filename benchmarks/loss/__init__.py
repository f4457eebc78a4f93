"""Time and memory of the loss and of its peers: measured, tabulated, drawn, compared."""
