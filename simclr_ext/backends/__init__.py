"""What computes the losses: compiled kernels (fused), PyTorch operations (tiled), or the reference.

From top to bottom: selection chooses one; ops has the operators and their autograd; fake what they
return without data; loader finds the kernels, or has first_use compile them; tiled and reference
need none.
"""
