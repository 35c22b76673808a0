"""A whole campaign, from the cloud's start to the report."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.accounts import Report, reckon
from bench.chaos.campaign import APP_SETTINGS, ROOT, Campaign, Echo, Say
from bench.chaos.faults import EventFaults, ModelFaults, Schedule
from bench.chaos.ledger import Ledger
from bench.chaos.plan import Names, items
from localcloud.cloud import LocalCloud

KEPT = Path(".local") / "chaos"
"""Below the root: the last campaign's log."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a campaign."""

    uploads: int
    schedule: Schedule
    patience: float
    """Seconds for what is left when the faults are over."""


LONG = Size(
    2000,
    Schedule(kill_every=(5, 9), done_between_kills=90, restarts_at=(0.2, 0.5, 0.8), host_stops_at=(0.35, 0.7)),
    240,
)
SHORT = Size(200, Schedule(kill_every=(3, 5), done_between_kills=30, restarts_at=(0.5,), host_stops_at=(0.75,)), 120)


async def run(size: Size, seed: int, say: Say, *, uploads: int | None = None, log: Path | None = None) -> Report:
    """Start a cloud, run a campaign against it, and check the outcome.

    Args:
        size: of the campaign.
        seed: decides what is uploaded and what fails.
        say: called with progress.
        uploads: other than the size's.
        log: where the functions host logs; None is below `KEPT`, which starts anew.
    """
    plan = list(items(uploads or size.uploads, seed))
    model = ModelFaults(seed, Names({item.number: item.name for item in plan}))
    events, ledger = EventFaults(seed), Ledger()
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
            storage_watch=ledger,
        )
        async with (
            cloud,
            Campaign(
                cloud=cloud,
                log=log,
                model=model,
                ledger=ledger,
                events=events,
                plan=plan,
                schedule=size.schedule,
                patience=size.patience,
                say=say,
            ) as campaign,
        ):
            began = time.monotonic()
            await campaign.run()
            return await reckon(campaign, time.monotonic() - began)
