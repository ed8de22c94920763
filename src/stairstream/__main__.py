"""The command line's beginning, for `stairstream` and `python -m stairstream`: importing takes long enough to be
interrupted."""

import sys

INTERRUPTED = 130


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from stairstream.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("stairstream: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
