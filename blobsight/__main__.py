"""`blobsight`, and `python -m blobsight`: from here on Ctrl-C is understood, also while the rest is still imported."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line; does not return."""
    # A process may be started with any of these closed.
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise
    try:
        from blobsight.cli import run  # noqa: PLC0415 - it takes half a second, in which people may think again

        status = run()
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
