"""The gallery's index: order, filters and counts of listed images, and the bytes that they take."""

import re
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import click
import pytest

from blobsight.asking import ASKING_OPTIONS
from blobsight.gallery.columns import FIXED_BYTES, MOST_CODES, OTHER_CODE
from blobsight.gallery.index import KEPT_VIEWS, MOST_FOLDERS, Index, Sort, View
from blobsight.gallery.looking import price_of_result
from blobsight.gallery.server import PAGES
from blobsight.image_states import ImageState, State
from blobsight.upload import upload
from pipeline.storage.facts import ListedBlob

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def image(
    name: str,
    state: State = State.SUCCEEDED,
    *,
    code: str | None = None,
    minute: int = 0,
    tokens: int | None = None,
    etag: str = "0x8DD0000000000A1",
) -> ImageState:
    moment = NOON + timedelta(minutes=minute)
    finished = None if state is State.PENDING else moment
    result = None if state is State.PENDING else "0x8DE0000000000B2"
    blob = ListedBlob(name, etag, moment, {}, 1000)
    return ImageState(blob, state, f"{name}.json", code, finished, result, None, tokens)


def index_of(*images: ImageState) -> Index:
    index = Index()
    for one in images:
        index.add(one, is_final=True)
    return index


def unread(_name: str) -> None:
    return None


def names(index: Index, **view: object) -> list[str]:
    return [index.columns.name(row) for row in index.rows(View(**view), unread)]  # type: ignore[arg-type] # a View's


def test_an_image_keeps_what_was_listed_of_it() -> None:
    index = index_of(image("a/b.png", State.FAILED, code="crashed", minute=1, tokens=12, etag="W/odd-1"))
    shown = index.columns.shown(0)
    assert shown.to_json() == {
        "name": "a/b.png",
        "state": "failed",
        "code": "crashed",
        "tokens": 12,
        "size": 1000,
        "modified": "2026-11-27T12:01:00+00:00",
        "finished": "2026-11-27T12:01:00+00:00",
        "etag": "W/odd-1",
        "result_etag": "0x8DE0000000000B2",
        "expected": False,
    }
    state = index.columns.state(0)
    assert (state.image.name, state.state, state.result_etag) == ("a/b.png", State.FAILED, "0x8DE0000000000B2")


def test_a_pending_image_is_corrected_when_its_result_is_listed() -> None:
    index = Index()
    index.add(image("a.png", State.PENDING), is_final=False)
    index.add(image("b.png", State.PENDING), is_final=False)
    assert (len(index), index.pending) == (2, 2)
    index.add(image("a.png", tokens=5), is_final=True)
    index.add(image("b.png", State.PENDING), is_final=True)
    assert (len(index), index.pending, index.columns.shown(0).tokens) == (2, 1, 5)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (Sort.NEWEST, ["img_10.png", "IMG_2.png", "b.png"]),
        (Sort.OLDEST, ["b.png", "IMG_2.png", "img_10.png"]),
        (Sort.NAME, ["b.png", "IMG_2.png", "img_10.png"]),
        (Sort.NAME_DOWN, ["img_10.png", "IMG_2.png", "b.png"]),
        (Sort.MOST_TOKENS, ["IMG_2.png", "b.png", "img_10.png"]),
        (Sort.FEWEST_TOKENS, ["b.png", "IMG_2.png", "img_10.png"]),
    ],
)
def test_every_order(sort: Sort, order: list[str]) -> None:
    """Numbers in names count as numbers, and images without tokens come last either way."""
    index = index_of(
        image("img_10.png", minute=2), image("b.png", minute=0, tokens=1), image("IMG_2.png", minute=1, tokens=9)
    )
    assert names(index, sort=sort) == order


def test_filters_can_be_combined() -> None:
    index = index_of(
        image("x/a.png", State.FAILED, code="crashed"),
        image("x/b.png", State.FAILED, code="corrupt_image"),
        image("x/c.png"),
        image("y/d.png", State.PENDING),
    )
    assert names(index, folder="x/", states=frozenset({"failed"}), sort=Sort.NAME) == ["x/a.png", "x/b.png"]
    assert names(index, codes=frozenset({"crashed"})) == ["x/a.png"]
    assert names(index, codes=frozenset({"never heard of"})) == []
    assert names(index, states=frozenset({"never heard of"})) == []
    assert names(index, text="D.P") == ["y/d.png"]


def test_the_text_is_searched_in_answers_that_were_read() -> None:
    index = index_of(image("a.png"), image("b.png"))
    answers = {"b.png": "a receipt for tea"}
    view = View(text="RECEIPT")
    assert [index.columns.name(row) for row in index.rows(view, answers.get)] == ["b.png"]
    answers["a.png"] = "another receipt"  # read since
    assert len(index.rows(view, answers.get)) == 2


def test_counts_by_state_code_and_folder() -> None:
    index = index_of(
        image("x/a.png", State.FAILED, code="crashed"),
        image("x/deep/b.png"),
        image("x/deep/er/c.png"),
        image("y/d.png", State.PENDING),
        image("e.png"),
    )
    every = index.overview("", "", unread)
    assert every.states == {"failed": 1, "succeeded": 3, "pending": 1}
    assert every.codes == {"crashed": 1}
    assert every.folders == {"x/": 3, "y/": 1}
    assert index.overview("x/", "", unread).folders == {"x/deep/": 2}
    assert index.overview("", "c.png", unread).states == {"succeeded": 1}


def test_pending_images_in_batches_have_a_state_of_their_own() -> None:
    index = index_of(image("a.png", State.PENDING), image("b.png", State.PENDING), image("c.png"))
    assert names(index, states=frozenset({"in_batch"})) == []
    index.note_batches({"b.png", "c.png"}.__contains__)
    assert names(index, states=frozenset({"in_batch"})) == ["b.png"]
    assert names(index, states=frozenset({"pending"})) == ["a.png"]
    assert index.overview("", "", unread).states == {"pending": 1, "in_batch": 1, "succeeded": 1}
    assert index.pending == 1
    row = index.columns.find("b.png")
    assert row is not None
    assert (index.columns.shown(row).state, index.columns.state(row).state) == ("in_batch", State.PENDING)


def test_what_strangers_wrote_is_bounded() -> None:
    many = (image(f"f{number:05}/a.png", State.FAILED, code=f"code {number}") for number in range(MOST_CODES + 500))
    index = index_of(*many)
    overview = index.overview("", "", unread)
    assert len(overview.codes) < MOST_CODES
    assert overview.codes[OTHER_CODE] > 500
    assert overview.codes.total() == MOST_CODES + 500
    assert len(overview.folders) == MOST_FOLDERS
    long = index_of(image("a.png", State.FAILED, code="x" * 5000 + "\x1b"))
    assert len(long.columns.shown(0).code or "") <= 60


def test_a_name_is_found_and_not_one_that_holds_it() -> None:
    index = index_of(image("a/b.png.bak"), image("b.png"), image("xa/b.png"), image("a/b.png"), image("日本.png"))
    assert [index.columns.find(name) for name in ("a/b.png", "b.png", "日本.png", "b.pn")] == [3, 1, 4, None]


def test_two_listings_of_the_same_are_alike() -> None:
    one, other = index_of(image("a.png"), image("b.png")), index_of(image("a.png"), image("b.png"))
    assert one.columns == other.columns
    other.add(image("c.png"), is_final=True)
    assert one.columns != other.columns
    changed = index_of(image("a.png", etag="0x8DD0000000000A2"))
    assert index_of(image("a.png")).columns != changed.columns


def test_an_image_takes_the_bytes_that_are_stated() -> None:
    count, length = 20_000, len("2026/receipts/IMG_00000.jpg")

    def images() -> Iterable[ImageState]:
        return (
            image(f"2026/receipts/IMG_{number:05}.jpg", tokens=number, etag=f"0x8DD{number + 1:012X}")
            for number in range(count)
        )

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        index = Index()
        for one in images():
            index.add(one, is_final=True)
        for sort in Sort:
            index.rows(View(sort=sort), unread)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    stated = FIXED_BYTES + length + 4 * KEPT_VIEWS
    # Arrays grow by an eighth at a time, and there are a few objects besides.
    assert taken / count < stated * 1.2


def test_the_form_offers_the_options_of_the_command_line() -> None:
    """Each choice that `upload` and `retry` take, and nothing else."""
    page = (PAGES / "index.html").read_text(encoding="utf-8")
    choices = {option.name: option.type.choices for option in upload.params if isinstance(option.type, click.Choice)}
    assert set(choices) == {"detail", "reasoning_effort", "service_tier"}
    for name, values in choices.items():
        select = re.search(rf'<select name="{name}">(.*?)</select>', page, re.DOTALL)
        assert select
        assert re.findall(r"<option>(.*?)</option>", select[1]) == list(values)
    fields = set(re.findall(r'name="(\w+)"', page)) - {"viewport"}
    assert fields >= set(ASKING_OPTIONS) - {"instructions_file"}


def test_money_is_the_list_price_or_not_known() -> None:
    usage = {"input_tokens": 1200, "output_tokens": 300}
    cost = price_of_result({"model": {"model": "gpt-5.1-2025-11-13"}, "usage": usage})
    assert cost
    assert cost["currency"] == "USD"
    assert 0 < cost["amount"] < 1
    by_batch = price_of_result({"model": {"model": "gpt-5.1", "service_tier": "batch"}, "usage": usage})
    assert by_batch == {"amount": pytest.approx(cost["amount"] / 2), "currency": "USD", "tier": "batch"}
    assert price_of_result({"model": {"model": "gpt-5.1", "service_tier": "priority"}, "usage": usage}) is None
    assert price_of_result({"model": {"model": "never heard of"}, "usage": usage}) is None
    assert price_of_result({"model": {"model": "gpt-5.1"}, "usage": {"input_tokens": None}}) is None
    assert price_of_result(None) is None
