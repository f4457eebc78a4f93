"""What pytest leaves out: modules whose packages are not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("jax") else ["simclr_ext/jax", "tests/jax/arrays.py"]
