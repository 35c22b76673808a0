"""`blobsight`, and `python -m blobsight`. Handles Ctrl-C from here on, even while the rest is still being imported."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line and exit."""
    # A process may be started with any of these streams closed.
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise
    try:
        from blobsight.cli import run  # noqa: PLC0415 - it takes half a second, in which people may press Ctrl-C

        status = run()
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
