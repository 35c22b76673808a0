"""Writing a failed result when the job can't write it. It depends on nothing that has failed."""

import hashlib
import logging
from typing import Protocol

from pipeline.errors import ErrorCode, PermanentFailure, RetryableFailure
from pipeline.job.keeping import keep_replaced
from pipeline.job.places import Place, Places
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.job.work import Answered, NotAsked, Stopwatch, Work, assemble, unknown_source
from pipeline.names import image_of_sidecar, wants_result
from pipeline.one_line import one_line
from pipeline.result import Result, ResultMetadata
from pipeline.storage.facts import ClaimedElsewhere, StoredResult
from pipeline.telemetry import count_lost_answer

logger = logging.getLogger(__name__)


class Claims(Protocol):
    """See `pipeline.storage.claims.Claims`."""

    async def keep_for(self, key: str, answer: bytes) -> None: ...


class LastResort:
    """Writes failed results.

    Args:
        deployment: the one that the results name.
    """

    def __init__(self, deployment: str, places: Places, claims: Claims) -> None:
        self._deployment = deployment
        self._places = places
        self._claims = claims

    async def record(self, request: Request, failure: PermanentFailure) -> Outcome:
        """Write `failure` as the result of the requested upload.

        It goes by what the container's listing says of the upload, or, when that can't be had, by its name alone.

        Raises:
            ClaimedElsewhere: the run that wrote the earlier result has not ended yet.
            RetryableFailure: the result can't be written.
        """
        name = image_of_sidecar(request.name) or request.name
        if not wants_result(name):
            return Outcome.NOT_AN_IMAGE
        not_asked = NotAsked(self._deployment, failure)
        place = self._places.of(request)
        target = place.result_name(name)
        while True:
            # In this order, so that a result which is replaced can't be one of a newer version than is listed.
            stored = await place.results.find(target)
            try:
                upload = await place.uploads.listed(name)
            except RetryableFailure as unlisted:
                if stored:
                    return Outcome.ALREADY_DONE
                logger.warning("%s: %s Its failed result says no more than its name.", one_line(name), unlisted.message)
                work = Work(unknown_source(request.container, name), "unknown", not_asked, request.trial)
            else:
                if upload is None:
                    return Outcome.GONE
                if stored and stored.facts.source_etag == upload.etag:
                    return Outcome.ALREADY_DONE
                work = Work.on(upload, not_asked, request.trial)
            result = assemble(work, Answered(failure), attempts=request.attempt, watch=Stopwatch())
            if stored:
                stored.require_replaceable(target)
                await self._keep(place, target, stored)
            if await self._write(place, target, result, replacing=stored):
                return Outcome.FAILED

    async def record_refused(self, message: str, problem: str) -> None:
        """Write a failed result for a stranger's message that asks for nothing it may, so that people find it.

        Raises:
            RetryableFailure: the result can't be written.
        """
        name = await self._record_message(message, problem)
        logger.warning("%s: a request was refused", one_line(name), extra={"outcome": "refused"})

    async def record_unreadable(self, message: str, problem: str) -> None:
        """Write a failed result for a message of the app's own, or of the host's, that names no work.

        Raises:
            RetryableFailure: the result can't be written.
        """
        name = await self._record_message(message, problem)
        extra = {"error_code": ErrorCode.CRASHED.value}
        logger.error("%s: a message on one of the app's own queues was refused", one_line(name), extra=extra)

    async def _record_message(self, message: str, problem: str) -> str:
        digest = hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()
        failure = PermanentFailure(
            ErrorCode.CRASHED,
            f"A queue message was refused: {problem}. Correct whatever sends it.",
            {"message": message[:1000]},
        )
        work = Work(unknown_source(None, None), digest, NotAsked(self._deployment, failure))
        name = f"unreadable-requests/{digest}.json"
        result = assemble(work, Answered(failure), attempts=1, watch=Stopwatch())
        await self._write(self._places.images, name, result, replacing=None)
        return name

    async def _keep(self, place: Place, name: str, stored: StoredResult) -> None:
        try:
            await keep_replaced(place.results, self._claims.keep_for, name, stored)
        except ClaimedElsewhere:
            raise
        except RetryableFailure as failure:
            count_lost_answer()
            logger.warning("%s: the answer of an earlier version can't be kept: %s", one_line(name), failure.message)

    async def _write(self, place: Place, name: str, result: Result, replacing: StoredResult | None) -> bool:
        metadata = ResultMetadata.of(result, reanalyzed=replacing.facts.reanalyzed if replacing else ())
        return await place.results.write(name, result.to_json(), metadata.to_blob(), replacing=replacing)
