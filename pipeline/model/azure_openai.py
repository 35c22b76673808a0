"""The call: one question about one image, one answer, through Azure OpenAI's v1 endpoint."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from random import SystemRandom
from urllib.parse import urlsplit

import aiohttp
import httpx2
from azure.core.exceptions import AzureError, ClientAuthenticationError
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient

from pipeline.documents.facts import Picture, sent_pages
from pipeline.errors import ErrorCode, Failure, OperatorFailure, PermanentFailure, RetryableFailure, TimedOut
from pipeline.images.resolution import patches
from pipeline.model.foreign_text import shown
from pipeline.model.original import ORIGINAL, DetailRefused
from pipeline.model.question import Question, Reply
from pipeline.model.refusals import NoFlexCapacity, RequestTooLarge
from pipeline.model.replies import UnreadableAnswer, read_response
from pipeline.model.request_body import RequestBody, request_body
from pipeline.model.spans import calling_model
from pipeline.pacing.gate import Busy, Turn
from pipeline.pacing.governor import Governor
from pipeline.pacing.waits import RETRIES_IN_PLACE, wait_in_place
from pipeline.settings import MOST_CONCURRENCY
from pipeline.telemetry import error_type

logger = logging.getLogger(__name__)

FLEX_TIMEOUT_SECONDS = 900.0
"""For a call at the tier flex, as the service advises; a longer MODEL_TIMEOUT_SECONDS counts there, too. It fits into a
delivery's deadline with time to prepare the image and to write the result."""
UNREADABLE_TRIES = RETRIES_IN_PLACE + 1
"""Answers that can't be read before the image fails. All of them may have been paid for."""
PROMPT_TOKENS = 1000
"""About what an image and a sentence cost, and least; the governor wants proportions, not a bill."""
TOKEN_SCOPE = "https://cognitiveservices.azure.com/.default"  # noqa: S105 - the name of a scope, not a secret


class AzureOpenAIModel:
    """A vision model behind an OpenAI v1 endpoint. One per process: it holds the connections.

    Args:
        endpoint: `https://<resource>.openai.azure.com`, with or without `/openai/v1`.
        token: gives a current bearer token for `TOKEN_SCOPE`; it is called for every request and caches.
        timeout: seconds for one call, answer included; at the tier flex at least FLEX_TIMEOUT_SECONDS.
        governor: decides when a call may start.
    """

    def __init__(self, endpoint: str, token: Callable[[], Awaitable[str]], timeout: float, governor: Governor) -> None:
        self._client = AsyncOpenAI(
            base_url=endpoint.removesuffix("/").removesuffix("/openai/v1") + "/openai/v1/",
            api_key=token,
            timeout=timeout,
            max_retries=0,  # the governor has to hear of every refusal, and decides when the next call starts
            # Half the processor time of the default one, see docs/decisions/0006. It is the governor that limits calls.
            http_client=DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=MOST_CONCURRENCY),
                event_hooks={"response": [_note_status]},
                follow_redirects=False,  # an image goes where the operator says, not where a response does
            ),
        )
        self._starting = asyncio.Lock()
        self._endpoint = endpoint
        self._host = urlsplit(endpoint).hostname
        self._timeout = timeout
        self._governor = governor
        self._rng = SystemRandom()

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def ask(self, question: Question, picture: Picture) -> Reply:
        """Ask about `picture`, again after a short wait if that is all it takes.

        What answers have cost that could not be read is in the reply that is returned, or in the failure's.

        Raises:
            PermanentFailure: content_filtered, model_refused, empty_answer, request_rejected; and invalid_answer or
                request_rejected when no answer can be read, tried UNREADABLE_TRIES times.
            RetryableFailure: throttling, outages, time-outs, connections that break.
            OperatorFailure: the identity lacks its role, the deployment does not exist, a quota is used up, …
        """
        body = request_body(question, picture)
        attempt, unreadable = 1, 0
        paid: Reply | None = None
        earlier: RetryableFailure | None = None
        try:
            while True:
                try:
                    reply = await self._ask_once(question, body, _prompt_tokens(question, picture))
                    return replace(reply, endpoint=self._host).after(paid)
                except Busy as busy:
                    # A call that failed was tried, whatever came of the next one.
                    raise earlier or self._sent_away(busy, question) from None
                except Failure as failure:
                    if failure.reply:
                        paid = replace(failure.reply, endpoint=self._host).after(paid)
                    failure.reply = paid
                    if isinstance(failure, UnreadableAnswer):
                        unreadable += 1
                        if unreadable == UNREADABLE_TRIES:
                            raise failure.for_good(unreadable) from None
                    wait = self._wait(failure, attempt, unreadable)
                    if wait is None or not isinstance(failure, RetryableFailure):
                        raise
                    earlier = failure
                    fields = {"deployment": question.deployment, "error_type": error_type(failure)}
                    logger.info("Asking again: %s", failure.message, extra=fields)
                await asyncio.sleep(wait)
                attempt += 1
        finally:
            earlier = None  # its traceback leads to this frame, and from here to the image

    def _sent_away(self, busy: Busy, question: Question) -> RetryableFailure:
        """What it means that there is no turn: where flex refuses others, it would have refused this question, too."""
        if not (question.lane.lacks_capacity and self._governor.refusing(question.lane)):
            return busy
        return NoFlexCapacity(busy.message, patience=question.buying.flex_patience, retry_after=busy.retry_after)

    def _wait(self, failure: Failure, attempt: int, unreadable: int) -> float | None:
        """Seconds until the next try in this process; None when there is none."""
        if isinstance(failure, UnreadableAnswer):
            return wait_in_place(unreadable, None, self._rng)
        if not isinstance(failure, RetryableFailure) or isinstance(failure, OperatorFailure | TimedOut):
            return None
        wait = wait_in_place(attempt, failure.retry_after, self._rng)
        # When throttled, the governor holds the next turn for as long as it has to.
        return 0.0 if wait is not None and failure.status == 429 else wait

    async def _ask_once(self, question: Question, body: RequestBody, prompt_tokens: int) -> Reply:
        # As the service counts: the prompt, and all that the answer may need, are charged when the call arrives.
        async with self._governor.turn(question.lane, prompt_tokens + question.max_output_tokens) as turn:
            with calling_model(
                self._endpoint,
                question.deployment,
                max_output_tokens=question.max_output_tokens,
                as_json=question.schema is not None,
            ) as replied:
                try:
                    status, headers, content = await self._post(body, turn, self._timeout_of(question))
                    reply = self._read(status, headers, content, question, turn)
                except Failure as failure:
                    if failure.reply:
                        replied(failure.reply)
                    raise
                replied(reply)
        return reply

    def _read(self, status: int, headers: Mapping[str, str], content: bytes, question: Question, turn: Turn) -> Reply:
        """The answer in a response. The governor hears how the call went."""
        try:
            reply = read_response(status, headers, content, question)
        except (PermanentFailure, RequestTooLarge, DetailRefused, UnreadableAnswer) as failure:
            # An answer all the same: the service had room for the call, and none of this is an outage.
            turn.succeeded(headers)
            if isinstance(failure, PermanentFailure) and failure.code is not ErrorCode.MODEL_REFUSED:
                fields = {"deployment": question.deployment, "error_type": error_type(failure)}
                logger.warning("No answer: %s", failure.message, extra=fields)
            raise
        except RetryableFailure as failure:
            if failure.status == 429 and not isinstance(failure, OperatorFailure):
                turn.throttled(headers, failure.message)
            else:
                turn.failed(failure.message)
            raise
        turn.succeeded(headers)
        return reply

    def _timeout_of(self, question: Question) -> float:
        return max(self._timeout, FLEX_TIMEOUT_SECONDS) if question.service_tier == "flex" else self._timeout

    async def _post(self, body: RequestBody, turn: Turn, seconds: float) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the response, whatever they say."""
        try:
            async with asyncio.timeout(seconds):
                # Many may get their turns at once. One begins in each turn of the event loop, so that it is never held
                # up for long, and the first is sent before the last is begun.
                async with self._starting:
                    await asyncio.sleep(0)
                response = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=body,
                    options={
                        "headers": {"Content-Type": "application/json", "Content-Length": str(len(body))},
                        "timeout": seconds,
                    },
                )
        except TimeoutError:
            raise _reported(TimedOut(f"The model did not answer within {seconds:g} seconds."), turn) from None
        except APIStatusError as error:
            return error.status_code, error.response.headers, error.response.content
        except (APIConnectionError, aiohttp.ClientError) as error:
            raise _reported(_connection_failure(error), turn) from _on_the_wire(error)
        except ClientAuthenticationError as error:
            raise OperatorFailure(
                "The managed identity got no token for the model: check AZURE_CLIENT_ID and that the identity is"
                f" assigned to the function app ({_first_line(error)})."
            ) from error
        except AzureError as error:
            raise RetryableFailure(f"The identity endpoint did not answer ({_first_line(error)}).") from error
        return response.status_code, response.headers, response.content


def _prompt_tokens(question: Question, picture: Picture) -> int:
    """About what the images and a sentence cost."""
    images = [page.image for page in sent_pages(picture)]
    if question.detail != ORIGINAL:
        return len(images) * PROMPT_TOKENS
    return sum(max(PROMPT_TOKENS, patches(image.width, image.height)) for image in images)


async def _note_status(response: httpx2.Response) -> None:
    """Keep the status with the request: a body that can't be read hides it."""
    response.request.extensions["status"] = response.status_code


def _reported(failure: RetryableFailure, turn: Turn) -> RetryableFailure:
    """`failure`, of which the governor has heard. Kept by no frame that its traceback leads to."""
    turn.failed(failure.message)
    return failure


def _connection_failure(error: APIConnectionError | aiohttp.ClientError) -> RetryableFailure:
    cause = _on_the_wire(error)
    if isinstance(error, APIConnectionError) and 200 <= error.request.extensions.get("status", 0) < 300:
        return UnreadableAnswer(f"The model's answer broke off, or can't be decoded ({_first_line(cause)}).")
    if isinstance(cause, TimeoutError):
        return RetryableFailure("The model did not answer in time.")
    return RetryableFailure(f"The connection to the model failed ({_first_line(cause)}).")


def _on_the_wire(error: BaseException) -> BaseException:
    """The cause, in aiohttp's words. Its adapter in the SDK calls a connection that was dropped a time-out, and
    lets an answer that is not HTTP through as it is.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    return cause or error.__cause__ or error


def _first_line(error: BaseException) -> str:
    return shown(str(error).strip().partition("\n")[0]) or type(error).__name__
