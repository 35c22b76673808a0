"""The governor alone, on a clock that jumps: an hour of calls takes about a second.

pytest tests/test_governor.py -rP -k quota        prints the ratios that were measured
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import some_of

from bench.simulation.clock import now, seeded, virtually
from bench.simulation.service import Bucket, Service, Windows
from pipeline.pacing.gate import AHEAD, Busy, Turn
from pipeline.pacing.governor import Governor
from pipeline.pacing.lane import Lane
from pipeline.pacing.pace import SLOWER
from pipeline.pacing.pauses import LONGEST_FAILURE_PAUSE
from pipeline.pacing.waits import (
    DEFERRALS,
    LONGEST_ASKED_WAIT,
    LONGEST_WAIT_IN_PLACE,
    asked_wait,
    deferral_delay,
    wait_in_place,
)

# A simulated service ---------------------------------------------------------------------------------------------


async def call(governor: Governor, service: Service, tokens: float, expected: float, rng: Random) -> bool:
    """One call as the job makes it; whether it was answered."""
    async with governor.turn(Lane("vision"), cost=expected) as turn:
        await asyncio.sleep(rng.uniform(0.02, 0.1))
        accepted, headers = service.arrive(tokens)
        if accepted:
            await asyncio.sleep(rng.uniform(0.5, 20))
            turn.succeeded(headers)
        else:
            await asyncio.sleep(0.03)
            turn.throttled(headers)
        return accepted


async def work_forever(governor: Governor, service: Service, rng: Random) -> None:
    while True:
        tokens = math.exp(rng.uniform(math.log(1_000), math.log(10_000)))
        expected = tokens * rng.uniform(0.8, 1.2)  # what an image costs is known roughly beforehand
        answered = False
        while not answered:
            try:
                answered = await call(governor, service, tokens, expected, rng)
            except Busy as busy:
                await asyncio.sleep(busy.retry_after or 0)


@asynccontextmanager
async def instances(number: int, service: Service, in_flight: int, seed: int) -> AsyncIterator[list[Governor]]:
    """That many app instances, each always with more work than it may have in flight."""
    rng = seeded(seed)
    governors = [Governor(most_in_flight=in_flight, patience=60, rng=seeded(seed + n)) for n in range(number)]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(work_forever(governor, service, rng))
            for governor in governors
            for _ in range(round(in_flight * 1.2))
        ]
        yield governors
        for task in tasks:
            task.cancel()


QUOTA = 2_400_000
"""Tokens a minute: ten calls a second of 3,900 on average, a hundred in flight."""
SETTLED_AFTER = 300.0
"""Seconds after a cold start or a change of the quota."""


@dataclass(frozen=True)
class Measured:
    used: float
    refused: float

    def __str__(self) -> str:
        return f"{self.used:6.1%} used {self.refused:5.1%} refused"


async def three_quarters_of_an_hour(service: Service, number: int, seed: int) -> list[tuple[Measured, Measured]]:
    """A quarter of an hour each with the quota, half of it, and all of it again: while settling, and settled."""
    phases = []
    async with instances(number, service, in_flight=max(16, 260 // number), seed=seed):
        for begin, part in ((0.0, 1.0), (900.0, 0.5), (1800.0, 1.0)):
            service.change_quota(QUOTA * part)
            await asyncio.sleep(begin + 900 - now())
            spans = ((begin, begin + SETTLED_AFTER), (begin + SETTLED_AFTER, begin + 900))
            settling, settled = (Measured(service.used(*span), service.refused_share(*span)) for span in spans)
            phases.append((settling, settled))
    return phases


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("kind", "talkative", "number"),
    some_of([(Windows, True, 10), (Windows, False, 1), (Bucket, True, 1), (Bucket, False, 10)]),
)
def test_instances_share_a_quota_and_are_seldom_refused(kind: type[Bucket], talkative: bool, number: int) -> None:  # noqa: FBT001 - a parameter of the test
    """At least 95 % of the quota is used and at most 5 % of the calls are refused, five minutes after any change.

    Any two of a kind of quota, headers that tell what is left of it or none, and a number of instances meet once.
    """
    phases = virtually(three_quarters_of_an_hour(Service(kind(QUOTA), talkative=talkative), number, seed=7))
    for name, (settling, settled) in zip(("cold start", "halved", "doubled"), phases, strict=True):
        print(f"{name:10} first 5 minutes: {settling}   then: {settled}")  # noqa: T201 - for -rP
        assert settled.used >= 0.95
        assert settled.refused <= 0.05
        assert settling.used >= 0.5
        assert settling.refused <= 0.12


@pytest.mark.no_cover
def test_an_outage_of_an_hour_costs_few_calls() -> None:
    """Nothing is accepted for an hour: a try every two minutes or so, and soon after it the quota is used again."""

    async def main() -> None:
        service = Service(Bucket(QUOTA), talkative=False)
        async with instances(3, service, in_flight=80, seed=3):
            await asyncio.sleep(900)
            service.change_quota(0)
            await asyncio.sleep(3600)
            assert sum(at >= 900 for at in service.refused) <= 3 * 80
            service.change_quota(QUOTA)
            await asyncio.sleep(600)
            assert service.used(4500 + 180, 5100) >= 0.9
            assert service.refused_share(4500 + 180, 5100) <= 0.05

    virtually(main())


# One caller at a time --------------------------------------------------------------------------------------------


class Caller:
    """Takes turns, and remembers who had one when."""

    def __init__(self, governor: Governor) -> None:
        self.governor = governor
        self.turns: list[tuple[str, float]] = []

    async def call(self, name: str, report: Callable[[Turn], None] | None = None, seconds: float = 1.0) -> None:
        async with self.governor.turn(Lane("vision")) as turn:
            self.turns.append((name, now()))
            await asyncio.sleep(seconds)
            (report or (lambda turn: turn.succeeded({})))(turn)

    def later(self, *names: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.call(name)) for name in names]


def throttle(**headers: str) -> Callable[[Turn], None]:
    return lambda turn: turn.throttled({name.replace("_", "-"): value for name, value in headers.items()})


def fail(turn: Turn) -> None:
    turn.failed()


def governor(most_in_flight: int = 4, patience: float = 30.0) -> Governor:
    return Governor(most_in_flight=most_in_flight, patience=patience, rng=seeded(1))


def test_turns_are_taken_in_the_order_of_asking() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=1))
        await asyncio.gather(*caller.later("a", "b", "c"))
        assert caller.turns == [("a", 0.0), ("b", 1.0), ("c", 2.0)]

    virtually(main())


def test_the_limit_opens_with_success_up_to_the_ceiling() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=40))
        assert caller.governor.state(Lane("vision")).limit == 2
        await asyncio.gather(*caller.later(*map(str, range(110))))
        starts = [at for _, at in caller.turns]
        assert [starts.count(float(second)) for second in range(6)] == [2, 4, 8, 16, 32, 40]
        assert caller.governor.state(Lane("vision")).limit == 40

    virtually(main())


def test_a_call_cancelled_while_waiting_leaves_its_place_to_the_next() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=1))
        first, second, third = caller.later("a", "b", "c")
        await asyncio.sleep(0.5)
        second.cancel()
        await asyncio.gather(first, third)
        assert caller.turns == [("a", 0.0), ("c", 1.0)]
        assert second.cancelled()
        assert caller.governor.state(Lane("vision")).in_flight == 0

    virtually(main())


def test_a_call_cancelled_as_its_turn_comes_gives_it_back() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=1))
        waiting: list[asyncio.Task[None]] = []

        def cancel_next(turn: Turn) -> None:
            turn.succeeded({})
            # Runs after the turn was passed on, before the waiting task has taken it.
            asyncio.get_running_loop().call_soon(waiting[0].cancel)

        first = asyncio.create_task(caller.call("a", cancel_next))
        waiting += caller.later("b", "c")
        await asyncio.gather(first, waiting[1])
        assert waiting[0].cancelled()
        assert caller.turns == [("a", 0.0), ("c", 1.0)]
        state = caller.governor.state(Lane("vision"))
        assert (state.in_flight, state.waiting) == (0, 0)

    virtually(main())


def test_a_call_that_breaks_gives_its_place_back() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=1))

        def breaks(_: Turn) -> None:
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await caller.call("a", breaks)
        await caller.call("b")
        assert [name for name, _ in caller.turns] == ["a", "b"]

    virtually(main())


def test_a_refusal_pauses_all_calls_until_the_time_the_service_names() -> None:
    async def main() -> None:
        caller = Caller(governor())
        await caller.call("a", throttle(retry_after="20"))
        assert 20 <= caller.governor.state(Lane("vision")).paused_for <= 22
        await asyncio.gather(*caller.later("b", "c"))
        assert all(at >= 21 for _, at in caller.turns[1:])
        assert caller.turns[1][1] < caller.turns[2][1], "not all at once"

    virtually(main())


def test_other_deployments_are_not_paused() -> None:
    async def main() -> None:
        caller = Caller(governor())
        await caller.call("a", throttle(retry_after="20"))
        async with caller.governor.turn(Lane("other")):
            assert now() == 1.0

    virtually(main())


def test_pauses_grow_when_the_service_names_no_time() -> None:
    async def main() -> None:
        caller = Caller(governor(patience=1000))
        for name in range(12):
            await caller.call(str(name), throttle(), seconds=0.0)
        pauses = [later - earlier for (_, earlier), (_, later) in pairwise(caller.turns)]
        assert all(later > earlier for earlier, later in pairwise(pauses[:8]))
        assert max(pauses) <= LONGEST_ASKED_WAIT * 1.1

    virtually(main())


def test_refusals_that_belong_together_slow_the_pace_once() -> None:
    """Twenty calls that were under way together and are all refused count as one refused call."""

    async def main(refused: int) -> float:
        caller = Caller(governor(most_in_flight=80))
        await asyncio.gather(*caller.later(*map(str, range(200))), caller.call("first refused", throttle()))
        learnt = caller.governor.state(Lane("vision")).pace
        assert learnt is not None
        calls = [caller.call(str(n), throttle(), seconds=4.0) for n in range(refused)]
        await asyncio.gather(*calls)
        assert caller.turns[-1][1] - caller.turns[-refused][1] < 4
        return (caller.governor.state(Lane("vision")).pace or 0) / learnt

    assert virtually(main(1)) == virtually(main(20)) == pytest.approx(SLOWER)


def test_work_that_would_wait_too_long_is_sent_away_at_once() -> None:
    """A call that already waits is refused when the pause begins, a later one when it comes."""

    async def main() -> None:
        caller = Caller(governor(most_in_flight=1, patience=10))
        first = asyncio.create_task(caller.call("a", throttle(retry_after="60")))
        (waiting,) = caller.later("b")
        await first
        with pytest.raises(Busy, match=r"'vision' is at its limit; a turn may come in 6[0-6] seconds") as busy:
            await waiting
        assert now() == 1.0
        assert busy.value.retry_after == pytest.approx(60, abs=6.1)
        with pytest.raises(Busy):
            await caller.call("c")
        assert now() == 1.0
        assert caller.governor.state(Lane("vision")).wait > 10

    virtually(main())


def test_no_call_waits_longer_than_its_patience() -> None:
    """An unforeseeable wait, behind a call that hangs, still ends."""

    async def main() -> None:
        caller = Caller(governor(most_in_flight=1, patience=10))
        hanging = asyncio.create_task(caller.call("a", seconds=1000))
        await asyncio.sleep(1)
        with pytest.raises(Busy):
            await caller.call("b")
        assert now() == 11.0
        hanging.cancel()

    virtually(main())


class Visitor:
    """Work that waits at the door, and calls when it is let in."""

    def __init__(self, governor: Governor, hold: float = 300) -> None:
        self.governor = governor
        self.hold = hold
        self.begun: list[tuple[str, float]] = []

    async def visit(
        self,
        name: str,
        preparing: float = 0.0,
        seconds: float = 1.0,
        report: Callable[[Turn], None] | None = None,
        *,
        failed_before: bool = False,
    ) -> None:
        async with self.governor.door(Lane("vision"), self.hold, failed_before=failed_before):
            self.begun.append((name, now()))
            await asyncio.sleep(preparing)
            async with self.governor.turn(Lane("vision")) as turn:
                await asyncio.sleep(seconds)
                (report or (lambda turn: turn.succeeded({})))(turn)

    def later(self, *names: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.visit(name)) for name in names]


def test_work_that_would_only_wait_for_its_turn_is_not_begun() -> None:
    """At a call in four seconds those are begun whose turn comes within ten; the others in the order they came."""

    async def main() -> None:
        several = governor(most_in_flight=32)
        visitor = Visitor(several)
        await asyncio.gather(visitor.visit("a", seconds=10), visitor.visit("b", seconds=4, report=throttle()))
        pace = several.state(Lane("vision")).pace
        assert pace is not None
        names = list(map(str, range(20)))
        visitors = visitor.later(*names)
        started, ended = now(), 0
        while ended < len(names):
            await asyncio.sleep(1)
            ended = sum(task.done() for task in visitors)
            assert len(visitor.begun) - 2 <= ended + 2 + AHEAD * pace * 1.2
        assert [name for name, _ in visitor.begun[2:]] == names
        assert now() - started >= 0.8 * len(names) / pace

    virtually(main())


def test_after_an_outage_no_more_are_let_in_than_can_be_called() -> None:
    """The pace is still what it was, the limit is one: all at once they would be sent away as quickly as they come."""

    async def main() -> None:
        several = governor(most_in_flight=64)
        visitor = Visitor(several)
        await asyncio.gather(*[visitor.visit(f"well {number}", seconds=5) for number in range(200)])
        await asyncio.gather(visitor.visit("well", seconds=5), visitor.visit("refused", report=throttle()))
        for number in range(12):
            await visitor.visit(f"down {number}", report=fail)
        state = several.state(Lane("vision"))
        assert state.limit == 1
        assert state.pace is not None
        begun = len(visitor.begun)
        visitors = [asyncio.create_task(visitor.visit(str(number), seconds=5)) for number in range(300)]
        await asyncio.gather(*visitors)  # none of them is Busy
        assert len(visitor.begun) - begun == 300

    virtually(main())


def test_a_pause_keeps_the_door_shut() -> None:
    async def main() -> None:
        visitor = Visitor(governor())
        await visitor.visit("a", report=throttle(retry_after="20"))
        await asyncio.gather(*visitor.later("b", "c"))
        assert all(21 <= at <= 23.5 for _, at in visitor.begun[1:])

    virtually(main())


def test_a_caller_that_gets_no_turn_is_held_for_the_whole_time() -> None:
    """Sent away at once, a backlog would go round between queue and app as quickly as both can."""

    async def main() -> None:
        several = governor(most_in_flight=2)
        inside = Visitor(several).later("a", "b")
        await asyncio.gather(*inside)
        hanging = [asyncio.create_task(Visitor(several).visit(name, preparing=10_000)) for name in "cd"]
        await asyncio.sleep(1)
        arrived = now()
        visitor = Visitor(several, hold=100)
        with pytest.raises(Busy):
            await visitor.visit("e")
        assert now() - arrived == pytest.approx(100)
        assert visitor.begun == []
        assert several.state(Lane("vision")).waiting == 0
        for task in hanging:
            task.cancel()

    virtually(main())


def test_a_call_cancelled_at_the_door_leaves_its_place_to_the_next() -> None:
    """While outside, and in the very moment of being let in."""

    async def main() -> None:
        several = governor(most_in_flight=1)
        visitor = Visitor(several)
        waiting: list[asyncio.Task[None]] = []

        def cancel_next(turn: Turn) -> None:
            turn.succeeded({})
            # Runs after the next was let in, before the waiting task knows of it.
            asyncio.get_running_loop().call_soon(waiting[1].cancel)

        first = asyncio.create_task(visitor.visit("a", report=cancel_next))
        waiting += visitor.later("outside", "entering", "last")
        outside, entering, last = waiting
        await asyncio.sleep(0.5)
        outside.cancel()
        await asyncio.gather(first, last)
        assert [name for name, _ in visitor.begun] == ["a", "last"]
        assert (outside.cancelled(), entering.cancelled()) == (True, True)
        await asyncio.wait_for(visitor.visit("another"), 5)

    virtually(main())


def test_an_outage_closes_the_gate_and_one_success_opens_it() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=128))
        for _ in range(4):
            await caller.call("bad luck", fail)
        assert caller.governor.state(Lane("vision")).paused_for == 0
        await caller.call("outage", fail)
        state = caller.governor.state(Lane("vision"))
        assert state.paused_for > 0
        assert state.limit == 4
        await caller.call("well again")
        for _ in range(4):
            await caller.call("bad luck", fail)
        assert caller.governor.state(Lane("vision")).paused_for == 0

    virtually(main())


def test_a_success_ends_the_pause_for_failures_but_not_what_the_service_asked_for() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=128))
        slow = asyncio.create_task(caller.call("slow", seconds=2))
        for number in range(6):
            await caller.call(str(number), fail, seconds=0.1)
        assert caller.governor.state(Lane("vision")).paused_for > 0
        await slow
        assert caller.governor.state(Lane("vision")).paused_for == 0
        slow = asyncio.create_task(caller.call("slow", seconds=10))
        await caller.call("throttled", throttle(retry_after="60"))
        await slow
        assert caller.governor.state(Lane("vision")).paused_for > 45

    virtually(main())


def test_a_pause_for_failures_is_no_longer_than_half_a_minute() -> None:
    async def main() -> None:
        caller = Caller(governor(patience=1000))
        for number in range(20):
            await caller.call(str(number), fail, seconds=0.0)
        pauses = [later - earlier for (_, earlier), (_, later) in pairwise(caller.turns)]
        assert pauses[:4] == [0, 0, 0, 0]
        assert all(later > earlier for earlier, later in pairwise(pauses[4:9]))
        assert max(pauses) <= LONGEST_FAILURE_PAUSE * 1.1

    virtually(main())


@pytest.mark.no_cover
@pytest.mark.parametrize(("failing", "longest"), [(9, 150), (40, 600)])
def test_a_few_images_that_always_fail_do_not_hold_up_the_others(failing: int, longest: float) -> None:
    """They are refused whenever they come, three times a delivery; 25 others come some time later, and are answered."""

    async def main(others_come_at: float) -> float:
        several = governor(most_in_flight=64)
        visitor, rng = Visitor(several, hold=1200), seeded(1)

        async def deliver_one_that_fails(attempt: int) -> None:
            async with several.door(Lane("vision"), 1200, failed_before=attempt > 1):
                for wait in (1.2, 2.4, 0):
                    async with several.turn(Lane("vision")) as turn:
                        await asyncio.sleep(0.5)
                        turn.failed()
                    await asyncio.sleep(wait)

        async def fail_for_ever() -> None:
            for attempt in range(1, 1000):
                with suppress(Busy):
                    await deliver_one_that_fails(attempt)
                await asyncio.sleep(deferral_delay(attempt, None, rng))

        async def be_answered(name: str) -> None:
            try:
                await visitor.visit(name, seconds=4)
            except Busy as busy:
                await asyncio.sleep(busy.retry_after or 0)
                await be_answered(name)

        those = [asyncio.create_task(fail_for_ever()) for _ in range(failing)]
        await asyncio.sleep(others_come_at)
        await asyncio.gather(*[be_answered(str(number)) for number in range(25)])
        for task in those:
            task.cancel()
        return now() - others_come_at

    assert max(virtually(main(others_come_at)) for others_come_at in (10.0, 60.0, 120.0, 300.0, 600.0)) <= longest


def test_while_calls_fail_the_door_lets_those_in_first_that_have_not_failed() -> None:
    async def main() -> None:
        visitor = Visitor(governor(most_in_flight=16))
        for number in range(12):
            await visitor.visit(str(number), report=fail)
        begun = len(visitor.begun)
        again = [asyncio.create_task(visitor.visit(f"again {n}", failed_before=True)) for n in range(3)]
        await asyncio.sleep(1)
        fresh = visitor.later("fresh")
        await asyncio.gather(*again, *fresh)
        assert [name for name, _ in visitor.begun[begun:]] == ["fresh", "again 0", "again 1", "again 2"]

    virtually(main())


def test_a_refused_call_gets_the_failure_of_the_last_one() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=128, patience=10))
        for number in range(20):
            with suppress(Busy):
                await caller.call(str(number), lambda turn: turn.failed("The key is missing (HTTP 401)."))
        with pytest.raises(Busy, match=r"seconds\. Its last call failed: The key is missing \(HTTP 401\)\.$"):
            await caller.call("x")
        await asyncio.sleep(60)
        await caller.call("well")
        await caller.call("y", throttle(retry_after="60"))
        with pytest.raises(Busy, match=r"seconds\.$"):
            await caller.call("z")

    virtually(main())


def test_the_pace_slows_before_the_service_refuses() -> None:
    """Little left of the quota: the calls that follow are spread out, with no refusal."""

    async def main() -> None:
        caller = Caller(governor(most_in_flight=4))
        low = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "3"}
        await asyncio.gather(*[caller.call("x", lambda turn: turn.succeeded(low)) for _ in range(4)])
        started = now()
        await asyncio.gather(*caller.later("a", "b", "c", "d"))
        assert caller.turns[-1][1] - started > 2

    virtually(main())


def test_the_pace_quickens_soon_when_most_of_the_quota_is_left() -> None:
    """From a call in ten seconds to one a second, in minutes; its few successes would show that far later."""

    async def main(left: int) -> float:
        caller = Caller(governor(most_in_flight=64))
        headers = {"x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": str(left)}
        await asyncio.gather(caller.call("a", seconds=20), caller.call("b", throttle(), seconds=10))
        assert caller.governor.state(Lane("vision")).pace == pytest.approx(0.1)

        async def call_on() -> None:
            while True:
                await caller.call("x", lambda turn: turn.succeeded(headers))

        callers, began = [asyncio.create_task(call_on()) for _ in range(2)], now()
        while (caller.governor.state(Lane("vision")).pace or 0) < 1:
            await asyncio.sleep(1)
        for task in callers:
            task.cancel()
        return (now() - began) / 60

    plenty, half = virtually(main(90)), virtually(main(50))
    assert plenty <= 5
    assert half >= 3 * plenty


def test_a_quiet_hour_is_not_taken_for_a_small_quota() -> None:
    async def main() -> None:
        caller = Caller(governor(most_in_flight=40))
        await caller.call("a")
        await asyncio.sleep(3600)
        await asyncio.gather(*caller.later(*map(str, range(80))), caller.call("x", throttle()))
        pace = caller.governor.state(Lane("vision")).pace
        assert pace is not None
        assert pace > 5

    virtually(main())


# What the service asks for, and the waits of our own ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "soon", "x-ratelimit-reset-tokens": "3"}, 3),
        ({"x-ratelimit-reset-tokens": "1s", "x-ratelimit-reset-requests": "120ms"}, 1),
        ({"x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "1m30.5s"}, 90.5),
        ({"x-ratelimit-reset-tokens": "6m0s"}, LONGEST_ASKED_WAIT),
        ({"x-ratelimit-reset-tokens": "1h"}, LONGEST_ASKED_WAIT),
        ({"retry-after": "86400"}, LONGEST_ASKED_WAIT),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_the_wait_that_the_service_names_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == (None if seconds is None else pytest.approx(seconds))


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"]), st.text()))
def test_any_header_is_a_time_in_bounds_or_none(headers: dict[str, str]) -> None:
    wait = asked_wait(headers)
    assert wait is None or 0 <= wait <= LONGEST_ASKED_WAIT


asked = st.none() | st.floats(0, LONGEST_ASKED_WAIT)
randoms = st.randoms(use_true_random=False)


@given(st.integers(1, 100), asked, randoms)
def test_a_short_wait_is_tried_twice_more_in_place(attempt: int, retry_after: float | None, rng: Random) -> None:
    wait = wait_in_place(attempt, retry_after, rng)
    if attempt > 2 or (retry_after or 0) > LONGEST_WAIT_IN_PLACE:
        assert wait is None
    else:
        assert wait is not None
        assert (retry_after or 0) <= wait <= LONGEST_WAIT_IN_PLACE * 1.5


@given(st.integers(1, 1000), asked, randoms)
def test_deferrals_grow_to_a_quarter_of_an_hour_and_respect_the_service(
    attempt: int, retry_after: float | None, rng: Random
) -> None:
    delay = deferral_delay(attempt, retry_after, rng)
    planned = DEFERRALS[min(attempt, len(DEFERRALS)) - 1]
    assert delay >= max(planned * 0.8, retry_after or 0)
    assert delay <= max(planned, retry_after or 0) * 1.2
