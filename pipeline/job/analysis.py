"""The job: from the name of an uploaded image to its result."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from typing import Protocol

from pipeline.errors import PermanentFailure
from pipeline.instructions import Files
from pipeline.job.answering import Answerer, Failing, LoggedAnswerer, ModelAnswerer, VisionModel
from pipeline.job.asking import Asking
from pipeline.job.batched import BatchLane
from pipeline.job.memory import Budget, Content
from pipeline.job.page_by_page import Interrupted
from pipeline.job.places import Place, Places
from pipeline.job.preparing import Preparer
from pipeline.job.race import Ended, Outcome, Race, is_done
from pipeline.job.reading import Reader, sha256
from pipeline.job.requests import Request
from pipeline.job.work import Asked, NotAsked, Stopwatch, Work, assemble, unknown_source, work_key
from pipeline.model.original import DeployedModels
from pipeline.names import image_of_sidecar, wants_result
from pipeline.pacing.rates import Reanalyses
from pipeline.result import Result
from pipeline.settings import Settings
from pipeline.storage.facts import Claim, ClaimedElsewhere, Upload, VersionGone
from pipeline.telemetry import DeliveryRecord, analyzing, count_taken_over

logger = logging.getLogger("pipeline.analysis")  # a name that people's queries match (docs/operations.md)


class Claims(Protocol):
    """Which run has which work; see `pipeline.storage.claims.Claims`."""

    def held(self, key: str) -> AbstractAsyncContextManager[Claim]: ...


class Analyzer:
    """The use case, once per process.

    It works on at most `settings.max_concurrency` images at a time, and holds at most `settings.image_memory_bytes` of
    them. Half is divided evenly among first reads, enough for nearly every image; the other half is one pool for larger
    ones. No image waits for one half while it holds part of the other, so they can't deadlock.

    Args:
        batch_lane: where questions go that need not be answered soon.
        instruction_files: where they are, if not beside the images.
        patience: seconds to wait for memory; an image that would wait longer gets `NoMemory`.
    """

    def __init__(  # noqa: PLR0913 - the parts of the app, and by keyword a time
        self,
        settings: Settings,
        places: Places,
        claims: Claims,
        model: VisionModel,
        *,
        batch_lane: BatchLane | None = None,
        instruction_files: Files | None = None,
        patience: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._places = places
        self._claims = claims
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        memory = Budget(settings.image_memory_bytes // 2, patience=patience)
        self._asking = Asking(settings, instruction_files or places.images.uploads, now)
        self._rate = Reanalyses(settings.reanalyses_per_hour)
        self._reader = Reader(settings, memory)
        self._preparer = Preparer(settings, memory)
        self._deployed = DeployedModels(settings.openai_deployment, settings.openai_model)
        self._model = ModelAnswerer(model, self._preparer, self._deployed)
        self._batch_lane = batch_lane

    async def analyze(
        self, request: Request, answerer: Answerer | None = None, record: DeliveryRecord | None = None
    ) -> Outcome:
        """Bring the requested upload to its result; an upload that is an image's sidecar, that image.

        A sidecar of no image, whose name shows that it will never have one, ends in a failed result of its own.

        Args:
            request: names the upload; what it asks comes before what the upload itself says.
            answerer: what answers instead of the model: `Failing`, when the work is given up.
            record: takes down what was found out, so that the caller knows it after a failure, too.

        Raises:
            RetryableFailure: nothing is written and the same call may succeed later.
        """
        image = image_of_sidecar(request.name) if self._asking.sidecars_count else None
        name = image or request.name
        record = record or DeliveryRecord(request.container, name, request.attempt, request.trial)
        record.name = name
        with analyzing(record):
            if wants_result(name):
                async with self._slots:
                    answers = answerer or self._model
                    ended = await self._bring_to_result(name, request, answers, record)
                    if (
                        ended.outcome is Outcome.GONE
                        and name != request.name
                        and await self._asking.is_misnamed(request.name)
                    ):
                        record.name = request.name
                        ended = await self._bring_to_result(request.name, request, answers, record)
            else:
                ended = Ended(Outcome.NOT_AN_IMAGE)
            record.outcome, record.error_code = ended.outcome, ended.error_code
            logger.info("%s", record, extra=record.fields())
        return ended.outcome

    async def analyze_bytes(self, data: bytes, content_type: str | None, asked: str | None) -> Result:
        """The result for an image that came by HTTP; nothing is read from storage or written to it.

        Raises:
            RetryableFailure: the same call may succeed later.
        """
        digest, watch = await sha256(data), Stopwatch()
        source = unknown_source(None, None).model_copy(
            update={"size_bytes": len(data), "content_type": content_type, "sha256": digest}
        )
        record = DeliveryRecord("http", "process_image", 1, steps=watch.steps)
        with analyzing(record):
            async with self._slots:
                work = Work(source, digest, await self._asking.about_bytes(asked))
                try:
                    answered = await self._model.answer(work.asked, Content(data, AsyncExitStack()), watch)
                except Interrupted as interrupted:
                    raise interrupted.cause from None
            result = assemble(work, answered, attempts=1, watch=watch)
            record.work_key, record.outcome = result.work_key, result.status
            record.error_code = result.error.code if result.error else None
            logger.info("%s", record, extra=record.fields())
        return result

    async def _bring_to_result(self, name: str, request: Request, answerer: Answerer, record: DeliveryRecord) -> Ended:
        place = self._places.of(request)
        while True:
            opened = await place.uploads.open(name)
            if opened is None:
                return Ended(Outcome.GONE)
            watch = Stopwatch()
            work = Work.on(opened.facts, await self._asked(place, opened.facts, request), request.trial)
            record.work_key, record.steps = work.key, watch.steps
            if isinstance(work.asked, Asked):
                record.deployment, record.service_tier = work.asked.question.lane
            async with AsyncExitStack() as reserved:
                content, answers = Content(b"", reserved), answerer
                try:
                    if isinstance(work.asked, Asked):
                        with watch.timed("download"):
                            content = await self._reader.read(opened, reserved)
                        work = work.with_content(await sha256(content.data))
                except PermanentFailure as failure:
                    answers = Failing(failure)
                except VersionGone:
                    continue
                try:
                    async with self._claimed(place, work, opened.facts, request, record, watch) as race:
                        ended = await self._run(race, answers, content)
                except ClaimedElsewhere:
                    # Duplicates of what is done would otherwise defer each other, again and again.
                    if is_done(work, request, await place.results.find(place.result_name(name))):
                        return Ended(Outcome.ALREADY_DONE)
                    raise
            if ended.outcome is not Outcome.CHANGED:
                return ended

    async def _asked(self, place: Place, upload: Upload, request: Request) -> Asked | NotAsked:
        if place.instructs:
            return await self._asking.about(upload.name, upload.metadata, request)
        return await self._asking.about(None, {}, request)

    async def _run(self, race: Race, answerer: Answerer, content: Content) -> Ended:
        """Run the race in the lane that its question takes."""
        if self._batch_lane is None:
            return await race.run(answerer, content)
        if await self._batch_lane.is_waiting(race.claim.kept):
            return Ended(Outcome.IN_BATCH)
        giving_up = answerer.failure if isinstance(answerer, Failing) else None
        logged = self._batch_lane.model_for(race.work, race.request, race.claim, giving_up)
        return await race.run(LoggedAnswerer(logged, self._preparer, self._deployed) if logged else answerer, content)

    @asynccontextmanager
    async def _claimed(  # noqa: PLR0913, PLR0917 - what one run is about
        self, place: Place, work: Work, upload: Upload, request: Request, record: DeliveryRecord, watch: Stopwatch
    ) -> AsyncIterator[Race]:
        async def is_still_asked() -> bool:
            current = await place.uploads.look(upload.name)
            if current is None or current.etag != upload.etag:
                return False
            return (await self._asked(place, current, request)).identity() == work.asked.identity()

        async with self._alone_on(upload, request), self._claims.held(work.content_key) as claim:
            if claim.runs > 1:
                count_taken_over()
            race = Race(
                place,
                upload=upload,
                work=work,
                request=request,
                claim=claim,
                watch=watch,
                is_still_asked=is_still_asked,
                rate=self._rate,
            )
            record.number = race.attempts
            yield race

    def _alone_on(self, upload: Upload, request: Request) -> AbstractAsyncContextManager[object]:
        """Keep other questions about the same image away, where a rate counts them: each has to see the one before.

        A trial's question has a result, and so a count, of its own.
        """
        if self._rate.limit is None or not request.is_of_an_upload:
            return nullcontext()
        return self._claims.held(work_key(upload.container, upload.name, "", ["reanalyses"]))
