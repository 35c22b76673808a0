"""Timer triggers: each function runs by its schedule, one run at a time."""

import asyncio
import json
import logging
import time
from datetime import UTC, datetime

from croniter import croniter

from localcloud.functions_host.bindings import Function, TimerTrigger
from localcloud.functions_host.errors import InvocationError, first_line
from localcloud.functions_host.trigger_context import Invoke
from localcloud.functions_host.worker_pool import Input

_LOG = logging.getLogger(__name__)


def next_run(schedule: str, after: float) -> float:
    """The first moment of the schedule after `after`; both in seconds since 1970."""
    moment: datetime = croniter(schedule, datetime.fromtimestamp(after, UTC), second_at_beginning=True).get_next(
        datetime
    )
    return moment.timestamp()


def timer_input(function: Function) -> Input:
    # The schedule is not monitored here, so nothing is ever past due.
    info = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False}
    return Input(function.parameter, "json", json.dumps(info))


async def run(function: Function, trigger: TimerTrigger, invoke: Invoke) -> None:
    """Run by the schedule until cancelled. A failed run is not repeated before its next time; a run that overlaps its
    next time replaces it.
    """
    due = time.time() if trigger.run_on_startup else next_run(trigger.schedule, time.time())
    while True:
        await asyncio.sleep(max(0.0, due - time.time()))
        try:
            await invoke(function, timer_input(function))
        except InvocationError as error:
            _LOG.warning("timer %s failed: %s", function.name, first_line(error))
        # From the due moment at the earliest: a clock that woke a moment early must not run it twice.
        due = next_run(trigger.schedule, max(due, time.time()))
