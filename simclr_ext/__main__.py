"""`python -m simclr_ext` is `simclr-ext`."""

import sys

from simclr_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
