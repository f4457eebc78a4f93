"""`simclr-ext` and `python -m simclr_ext`: all commands, or only doctor without jsonargparse."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run a command; without the extra `cli`, only `doctor`.

    Returns:
        Exit code, as of :func:`simclr_ext.cli.main`.
    """
    if not sys.stderr.isatty():  # no progress bars in a log, such as those of torchvision
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
