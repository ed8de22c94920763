"""The command line's beginning, for `stairstream` and `python -m stairstream`: importing takes long enough to be
interrupted."""

import os
import sys

INTERRUPTED = 130


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from stairstream.backends.threads import with_little_spin

        os.environ.update(with_little_spin(os.environ))  # before anything imports torch
        from stairstream.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("stairstream: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
