"""Views of images: what is drawn at random, the operations, and batches of them."""
