"""A whole campaign, from the cloud's start to the report."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.accounts import reckon
from bench.chaos.batch_faults import BatchFaults, LineFaults
from bench.chaos.campaign import APP_SETTINGS, ROOT, Campaign, Echo, Say
from bench.chaos.faults import EventFaults, ModelFaults, Schedule, rng_of
from bench.chaos.ledger import Ledger
from bench.chaos.plan import Names, items
from bench.chaos.report import Report
from bench.chaos.steps import StepKiller
from localcloud.cloud import LocalCloud

KEPT = Path(".local") / "chaos"
"""Below the root: the last campaign's log."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a campaign."""

    uploads: int
    schedule: Schedule
    backlog: int
    """Uploads ahead of their results."""
    patience: float
    """Seconds for what is left when the faults are over."""


LONG = Size(
    2000,
    Schedule(
        kill_every=(5, 9),
        done_between_kills=90,
        restarts_at=(0.2, 0.5, 0.8),
        host_stops_at=(0.35, 0.7),
        kill_at_step_every=(2, 5),
    ),
    200,
    240,
)
SHORT = Size(
    200,
    Schedule(
        kill_every=(3, 5),
        done_between_kills=30,
        restarts_at=(0.5,),
        host_stops_at=(0.75,),
        kill_at_step_every=(1, 3),
    ),
    50,
    180,
)
BY_BATCH = {"both": 0.4, "default": 0.0, "batch": 1.0}
"""The part of the images that goes by the batch lane, by the lane that is asked for."""


async def run(  # noqa: PLR0913 - what a campaign is, by keyword
    size: Size, seed: int, say: Say, *, lane: str = "both", uploads: int | None = None, log: Path | None = None
) -> Report:
    """Start a cloud, run a campaign against it, and check the outcome.

    Args:
        size: of the campaign.
        seed: decides what is uploaded and what fails.
        say: called with progress.
        lane: a key of `BY_BATCH`.
        uploads: other than the size's.
        log: where the functions host logs; None is below `KEPT`, which starts anew.
    """
    plan = list(items(uploads or size.uploads, seed, BY_BATCH[lane]))
    names = Names({item.number: item.name for item in plan})
    model, events, ledger = ModelFaults(seed, names), EventFaults(seed), Ledger()
    killer = StepKiller(ledger, rng_of(seed, "steps"), size.schedule.kill_at_step_every)
    log = log or ROOT / KEPT / "functions.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        cloud = LocalCloud(
            directory=Path(directory),
            app=ROOT,
            log=log,
            in_memory=False,  # it has to survive its restarts
            settings=APP_SETTINGS,
            brain=Echo(),
            event_faults=events,
            storage_watch=killer,
        )
        async with (
            cloud,
            Campaign(
                cloud=cloud,
                log=log,
                model=model,
                ledger=ledger,
                events=events,
                batches=BatchFaults(seed, killer, LineFaults(seed, names)),
                plan=plan,
                schedule=size.schedule,
                backlog=size.backlog,
                patience=size.patience,
                say=say,
            ) as campaign,
        ):
            began = time.monotonic()
            await campaign.run()
            return await reckon(campaign, time.monotonic() - began)
