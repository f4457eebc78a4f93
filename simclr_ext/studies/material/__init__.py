"""What several studies share: training, transformations, losses, numbers over seeds."""
