"""The command line for people and for bulk: `blobsight --help`."""

import sys
from pathlib import Path

# Where it was installed, the parts of the app that it shares are inside it: docs/decisions/0008.
_vendored = Path(__file__).with_name("_vendored")
if _vendored.is_dir():
    sys.path.insert(0, str(_vendored))
