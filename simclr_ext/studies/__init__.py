"""The studies of the SimCLR paper (arXiv 2002.05709), each as one command with its picture."""
