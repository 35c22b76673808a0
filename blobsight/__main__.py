"""`blobsight`, and `python -m blobsight`: from here on Ctrl-C is understood, also while the rest is still imported."""

import sys


def main() -> None:
    """Run the command line; does not return."""
    try:
        from blobsight.cli import run  # noqa: PLC0415 - it takes half a second, in which people may think again

        status = run()
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
