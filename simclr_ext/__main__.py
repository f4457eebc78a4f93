"""`simclr-ext`, and `python -m simclr_ext`: the command line, or what can be done without it."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run a command; without the command line's extra, only `doctor`.

    Returns:
        Exit code, as of :func:`simclr_ext.cli.main`.
    """
    if not sys.stderr.isatty():  # no bars of others in a log, such as torchvision's of a download
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        from simclr_ext.cli import main as run
    except ModuleNotFoundError as error:
        if error.name != "jsonargparse":
            raise
        return _without_extra()
    return run()


def _without_extra() -> int:
    if sys.argv[1:] == ["doctor"]:
        from simclr_ext.doctor import main as doctor

        return doctor()
    print(
        "simclr-ext: error: all commands but doctor need jsonargparse: pip install "
        "'simclr-ext[trainer]', or 'simclr-ext[cli]' for bench alone",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
