"""Interactive pages, each one file that needs nothing else; made from plain arrays."""
