"""Whatever a result blob holds, reading and showing it ends well: it is a result, or it is named for what it is."""

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from copy import deepcopy
from datetime import UTC, datetime
from io import StringIO
from time import tzset
from typing import Any

import pytest
from azure.storage.blob import BlobProperties, ContentSettings
from hypothesis import example, given
from hypothesis import strategies as st
from support.some_results import failed, result_of

from blobsight.following import summary_of
from blobsight.reading import Content, UnreadableError
from blobsight.results.flattening import Columns, json_text
from blobsight.show import Found, _print, _sections, to_json
from blobsight.stored_results import parse_result

WHOLE = [json.loads(result.to_json()) for result in (result_of("a.png"), failed("b.png"))]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


def paths(document: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in document.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A result of which a few fields are gone, or hold something else."""
    document = deepcopy(draw(st.sampled_from(WHOLE)))
    for path in draw(st.lists(st.sampled_from(list(paths(document))), max_size=3)):
        section = document
        for key in path[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict):
            if draw(st.booleans()):
                section.pop(path[-1], None)
            else:
                section[path[-1]] = draw(VALUES)
    return document


def image() -> BlobProperties:
    blob = BlobProperties(name="a.png", content_settings=ContentSettings())
    blob.etag = "0x1"
    blob.last_modified, blob.size = datetime(2026, 3, 14, tzinfo=UTC), 7
    return blob


@pytest.fixture(params=["Pacific/Kiritimati", "Etc/GMT+12"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """The first and the last place where a day begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        tzset()
        yield
    tzset()


@pytest.mark.usefixtures("anywhere")
@given(damaged())
@example({"status": "succeeded", "source": {"format": "png", "width": 7}, "answer": {"text": "a\x1b\u2028\u202e"}})
@example({"status": "succeeded", "source": {}, "answer": {"text": ""}, "created_at": "0001-01-01T00:00:00Z"})
@example({"status": "succeeded", "source": {}, "answer": {"text": ""}, "created_at": "9999-12-31T23:59:59Z"})
@example({"status": "failed", "source": {}, "answer": {}, "error": {"code": "", "message": ""}})
@example({"status": "succeeded", "source": {}, "answer": {"text": ""}, "error": {"other": None}})
def test_every_stored_result_can_be_shown_summed_up_and_exported(document: Any) -> None:
    try:
        result = parse_result(Content(json.dumps(document).encode(), None))
    except UnreadableError:
        return
    assert result == document
    for facts in ({"format": "png", "width": 1, "height": 1}, result["source"]):
        found = Found("a.png", image(), facts, result)
        assert [title for title, _ in _sections(found)][-1] == "History"
        with redirect_stdout(StringIO()) as shown:
            _print(found)
        assert shown.getvalue().replace("\n", "").isprintable() or "\u200d" in shown.getvalue()
    json.dumps(to_json(found), allow_nan=False)
    assert summary_of(result)
    json_text(result)
    Columns().row(result)


@given(VALUES)
def test_whatever_json(document: Any) -> None:
    with pytest.raises(UnreadableError, match="it is "):
        parse_result(Content(json.dumps(document).encode(), None))


@given(st.binary(), st.sampled_from([None, "gzip", "br"]))
def test_bytes_that_are_not_a_result_are_unreadable(data: bytes, encoding: str | None) -> None:
    with pytest.raises(UnreadableError):
        parse_result(Content(data, encoding))


@pytest.mark.parametrize("field", ["source.etag", "model", "usage", "answer.finish_reason", "work_key"])
def test_a_field_that_is_not_there_makes_no_difference(field: str) -> None:
    """Nor does null: an older version wrote fewer."""
    *sections, last = field.split(".")
    for is_null in (True, False):
        document = deepcopy(WHOLE[0])
        section = document[sections[0]] if sections else document
        section[last] = None
        if not is_null:
            del section[last]
        assert parse_result(Content(json.dumps(document).encode(), None)) == document
