"""The engine of the studies: the grid, the sweep over it, the folder and the report."""
