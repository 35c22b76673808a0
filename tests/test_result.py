"""The published JSON Schema is the code's own type."""

from pathlib import Path

from pipeline import result

PUBLISHED = Path(__file__).parent.parent / "docs" / "result.schema.json"


def test_the_published_schema_is_up_to_date() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == result.json_schema(), "run make schema"
