"""Fails when the default model is near its retirement: infra/model.json says when that is. A workflow runs it weekly.

It is not part of make check: no clone turns red by the calendar.
"""

import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

MODEL = Path(__file__).parent.parent / "infra" / "model.json"
NOTICE = timedelta(days=120)
"""Time to choose, try and roll out another model. `blobsight doctor` gives the same notice to those who deployed it."""


def complaint(today: date) -> str | None:
    """The complaint about the default model on this day; None when there is none."""
    model = json.loads(MODEL.read_text(encoding="utf-8"))
    retires = date.fromisoformat(model["retires"])
    if retires - today > NOTICE:
        return None
    return (
        f"The default model {model['name']} {model['version']} retires on {retires}, in {(retires - today).days} days."
        f" Look its date up, or choose another one: {MODEL.relative_to(MODEL.parent.parent)} names the sources."
    )


def main() -> int:
    """Say what is wrong; 1 if something is."""
    if found := complaint(datetime.now(UTC).date()):
        sys.stderr.write(f"error: {found}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
