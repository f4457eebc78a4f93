"""Views of images: their random parameters, the operations, and batches of them."""
