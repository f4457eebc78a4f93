"""Evaluation of representations: features, probes on them, scores and tables."""
