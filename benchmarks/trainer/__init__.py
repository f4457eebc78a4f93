"""The trainer beside others: steps, augmentation and micro-batches."""
