"""The contrastive losses tile by tile in PyTorch operations: any device, any floating dtype.

The algorithm of csrc/cpu with larger tiles, without a compiler; docs/math.md derives it. One tile
of S = X Y^T exists at a time; if the columns are the rows, only the tiles on and above the
diagonal are computed:

    forward   lse_i = log sum_j exp(s_ij / T)            row sums to block a, column sums to block b
    backward  dL/dX_a += W Y_b,  dL/dY_b += W^T X_a      W_ij = (g_i P_ij + g_j P_ji - ...) / T

Nothing waits for the device inside the loops over tiles. The order of summation is fixed.

From top to bottom: operators, and sigmoid with those of the sigmoid loss; row_sums (forward) and
pair_weights (backward); tiles; schedule, pairing and rows; problem.
"""

from simclr_ext.backends.tiled.operators import (
    contrastive_backward,
    contrastive_forward,
    contrastive_stats,
    nt_xent_backward,
    nt_xent_forward,
)
from simclr_ext.backends.tiled.sigmoid import sigmoid_backward, sigmoid_forward

__all__ = [
    "contrastive_backward",
    "contrastive_forward",
    "contrastive_stats",
    "nt_xent_backward",
    "nt_xent_forward",
    "sigmoid_backward",
    "sigmoid_forward",
]
