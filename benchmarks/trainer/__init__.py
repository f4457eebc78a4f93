"""The trainer compared with others: steps, augmentation and micro-batches."""
