"""The campaign in short, and whether its reckoning would notice."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.chaos.accounts import is_cut_off, repeated
from bench.chaos.faults import Call, Kill, Outage
from bench.chaos.plan import WEIGHTS, items
from bench.chaos.run import SHORT, run


@pytest.mark.timeout(180)
async def test_nothing_is_lost_and_nothing_paid_twice_whatever_fails(tmp_path: Path) -> None:
    """Two real workers that are killed in mid-call, a model and events with faults, storage that goes away."""
    report = await run(SHORT, 7, lambda *_: None, log=tmp_path / "functions.log")
    rows = dict(report.rows)
    assert report.problems == [], rows
    assert rows["images uploaded"] == "200"
    kills, restarts = rows["workers killed / emulator restarts"].split(" / ")
    assert int(kills) >= 1
    assert int(restarts) >= 1
    assert rows["answered again with no explanation"] == "0"


def test_a_seed_decides_what_is_uploaded() -> None:
    plan = list(items(120, 3))
    assert plan == list(items(120, 3))
    assert plan != list(items(120, 4))
    assert {item.kind for item in plan} == set(WEIGHTS)
    assert len({item.name for item in plan}) == 120
    contents = {item.content(version) for item in plan if item.content(1) for version in (1, 2)}
    assert len(contents) == 2 * sum(bool(item.content(1)) for item in plan)


FIRST = Call(("Describe item 1, version 1.", "digest"), at=100.0, fate="answered", request_id="a")
AGAIN = replace(FIRST, at=110.0, request_id="b")
OTHER = replace(FIRST, work=("Describe item 2, version 1.", "digest"))


@pytest.mark.parametrize(
    ("calls", "kills", "outages", "expected"),
    [
        ([FIRST, OTHER], [], [], (0, 0, 0)),
        ([replace(FIRST, fate="lost on the wire"), AGAIN], [], [], (0, 0, 0)),
        ([replace(FIRST, fate="turned away"), AGAIN], [], [], (0, 0, 0)),
        ([AGAIN, FIRST], [], [], (0, 0, 1)),
        ([FIRST, AGAIN], [Kill(100.5, running=1)], [], (1, 0, 0)),
        ([FIRST, AGAIN], [Kill(99.9, running=1)], [], (0, 0, 1)),
        ([FIRST, AGAIN], [Kill(109.0, running=1)], [], (0, 0, 1)),
        ([FIRST, AGAIN], [Kill(100.5, running=0)], [], (0, 0, 1)),
        ([FIRST, AGAIN, OTHER, replace(OTHER, at=110.0)], [Kill(100.5, running=1)], [], (1, 0, 1)),
        ([FIRST, AGAIN], [], [Outage(101.0, 107.0)], (0, 1, 0)),
        ([FIRST, AGAIN], [], [Outage(80.0, 90.0)], (0, 0, 1)),
        ([FIRST, AGAIN], [Kill(108.0, running=1)], [Outage(101.0, 107.0)], (1, 0, 0)),
    ],
    ids=[
        "two works", "lost on the wire", "turned away", "paid twice", "killed in mid-call", "killed before",
        "killed long after", "nothing ran there", "more than ran there", "storage away", "storage away before",
        "killed while storage was away",
    ],
)  # fmt: skip
def test_an_answer_given_twice_is_noticed_unless_the_first_was_lost(
    calls: list[Call], kills: list[Kill], outages: list[Outage], expected: tuple[int, int, int]
) -> None:
    """Expected: explained by a kill, by an outage of storage, unexplained."""
    found = repeated(calls, kills, outages)
    assert (found.by_kill, found.by_outage, len(found.unexplained)) == expected


def test_a_claim_left_is_explained_only_by_what_cut_it_off() -> None:
    kill, outage = Kill(100.5, 3), Outage(200.0, 207.0)
    written = {100.0: True, 98.0: True, 101.0: False, 96.0: False, 198.0: True, 206.0: True, 195.0: False, 208.0: False}
    assert {at: is_cut_off(at, [kill], [outage]) for at in written} == written
    assert not is_cut_off(100.0, [], [])
