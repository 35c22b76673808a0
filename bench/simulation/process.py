"""One process of the app, as `pipeline.composition` puts it together, over simulated storage and a simulated model."""

from random import Random

from bench.simulation.host import Queue
from bench.simulation.model import Endpoint, SimulatedModel
from bench.simulation.storage import Account, date
from pipeline.composition import PATIENCE_SECONDS
from pipeline.job.analysis import Analyzer
from pipeline.job.batched import BatchLane, Lines
from pipeline.job.last_resort import LastResort
from pipeline.job.places import Place, Places
from pipeline.pacing.governor import Governor
from pipeline.settings import Settings
from pipeline.storage.claims import Claims
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.results import Results
from pipeline.storage.uploads import Uploads
from pipeline.triggers.deliveries import Deliveries
from pipeline.triggers.lanes import Lanes


def deliveries(  # noqa: PLR0913 - what a process is given
    config: Settings, account: Account, endpoint: Endpoint, deferred: Queue, rng: Random, *, lines: Lines | None = None
) -> Deliveries:
    """What the host hands messages to.

    Args:
        config: the app's settings.
        account: the app's storage.
        endpoint: the model's.
        deferred: the queue of deferred work.
        rng: for everything that is random.
        lines: of batches; None: there is no batch lane.
    """
    governor = Governor(most_in_flight=config.max_concurrency, patience=PATIENCE_SECONDS, rng=rng)
    uploads = Uploads(account, config.input_container)  # type: ignore[arg-type]  # as much of the SDK as is used
    results = Results(account, config.output_container)  # type: ignore[arg-type]
    place = Place(uploads, results)
    places = Places(place, trials=place)
    claims = Claims(account, config.state_container, config.claim_seconds)  # type: ignore[arg-type]
    model = SimulatedModel(endpoint, config.model_timeout_seconds, governor, rng)
    lane = BatchLane(model, lines, config.batch_deployment, now=date) if lines else None
    return Deliveries(
        Analyzer(config, places, claims, model, batch_lane=lane),
        LastResort(config.openai_deployment, places, claims),
        deferred,
        QueuedMarks(account, config.state_container),  # type: ignore[arg-type]
        governor,
        lanes=Lanes.of(config),
        retry_for=config.retry_for_seconds,
        now=date,
        rng=rng,
    )
