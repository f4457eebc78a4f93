"""How good a representation is: features, probes on them, scores and tables."""
