"""A whole campaign, from the cloud's start to the report."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.accounts import Report, reckon
from bench.chaos.campaign import APP_SETTINGS, ROOT, Campaign, Echo, Say
from bench.chaos.faults import EventFaults, ModelFaults
from bench.chaos.ledger import Ledger
from bench.chaos.plan import Names, items
from localcloud.cloud import LocalCloud

KEPT = Path(".local") / "chaos"
"""Below the root: the last campaign's log."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. Seconds, and parts of the uploads."""

    uploads: int
    kill_every: tuple[float, float]
    restarts_at: tuple[float, ...]
    patience: float


LONG = Size(uploads=2000, kill_every=(5, 9), restarts_at=(0.2, 0.5, 0.8), patience=240)
SHORT = Size(uploads=200, kill_every=(3, 5), restarts_at=(0.5,), patience=60)


async def run(size: Size, seed: int, say: Say, *, uploads: int | None = None, log: Path | None = None) -> Report:
    """Start a cloud, run a campaign against it, and reckon.

    Args:
        size: how much of everything.
        seed: decides what is uploaded and what fails.
        say: hears of progress.
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
                kill_every=size.kill_every,
                restarts_at=size.restarts_at,
                patience=size.patience,
                say=say,
            ) as campaign,
        ):
            began = time.monotonic()
            await campaign.run()
            return await reckon(campaign, time.monotonic() - began)
