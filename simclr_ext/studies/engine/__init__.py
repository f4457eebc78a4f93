"""How a study runs: its grid, the sweep over it, its folder and its report."""
