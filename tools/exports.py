"""Turn a deployment's values into exports for a shell, quoted so that no value runs as a command.

eval "$(azd env get-values --output json | python3 tools/exports.py)"
eval "$(az deployment sub show --name blobsight --query properties.outputs --output json | python3 tools/exports.py)"

Only AZURE_… and BLOBSIGHT_… are exported: a value for PATH, say, would choose the next program.
"""

import json
import re
import shlex
import sys
from typing import Any

NAME = re.compile(r"(AZURE|BLOBSIGHT)_[A-Z0-9_]+")


def exports(values: dict[str, Any]) -> str:
    """An `export` for each value: of azd's, which are texts, or of a deployment's outputs, which are in objects."""
    plain = {name.upper(): value["value"] if isinstance(value, dict) else value for name, value in values.items()}
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in plain.items()
        if NAME.fullmatch(name) and isinstance(value, str)
    )


if __name__ == "__main__":
    sys.stdout.write(exports(json.load(sys.stdin)))
