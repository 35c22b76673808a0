"""The vision model: one question about one image, one answer, through Azure OpenAI's v1 endpoint."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Annotated, Any

import aiohttp
import httpx2
from azure.core.exceptions import AzureError, ClientAuthenticationError
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from pipeline.errors import ErrorCode, Failure, OperatorFailure, PermanentFailure, RetryableFailure, TimedOut
from pipeline.governor import Busy, Governor, Turn
from pipeline.images import PreparedImage
from pipeline.request_body import RequestBody
from pipeline.retrying import asked_wait, wait_in_place
from pipeline.settings import MOST_CONCURRENCY, Detail, ReasoningEffort
from pipeline.structured import AnswerSchema
from pipeline.telemetry import calling_model, error_type

logger = logging.getLogger(__name__)

PROMPT_TOKENS = 1000
"""About what an image and a sentence cost; the governor wants proportions, not a bill."""
TOKEN_SCOPE = "https://cognitiveservices.azure.com/.default"  # noqa: S105 - the name of a scope, not a secret


@dataclass(frozen=True, slots=True)
class Question:
    """Everything besides the image that changes the answer."""

    instructions: str
    deployment: str
    system_prompt: str
    detail: Detail
    max_output_tokens: int
    reasoning_effort: ReasoningEffort | None = None
    schema: AnswerSchema | None = None

    def identity(self) -> list[object]:
        """JSON that is equal for equal questions, and for no others."""
        schema = self.schema.digest if self.schema else None
        return [*(getattr(self, name) for name in _PLAIN), schema]


_PLAIN = ("instructions", "deployment", "system_prompt", "detail", "max_output_tokens", "reasoning_effort")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said. Token counts are the service's own, None where it gave none."""

    text: str
    finish_reason: str | None
    model: str | None
    request_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"

    def after(self, earlier: "Reply") -> "Reply":
        """This reply, with the tokens of an earlier one that did not do: they were paid too."""
        return replace(
            self,
            input_tokens=_sum(self.input_tokens, earlier.input_tokens),
            output_tokens=_sum(self.output_tokens, earlier.output_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, earlier.reasoning_tokens),
            cached_tokens=_sum(self.cached_tokens, earlier.cached_tokens),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


class AzureOpenAIModel:
    """A vision model behind an OpenAI v1 endpoint. One per process: it holds the connections.

    Args:
        endpoint: `https://<resource>.openai.azure.com`, with or without `/openai/v1`.
        token: gives a current bearer token for `TOKEN_SCOPE`; it is called for every request and caches.
        timeout: seconds for one call, answer included.
        governor: decides when a call may start.
    """

    def __init__(self, endpoint: str, token: Callable[[], Awaitable[str]], timeout: float, governor: Governor) -> None:
        self._client = AsyncOpenAI(
            base_url=endpoint.removesuffix("/").removesuffix("/openai/v1") + "/openai/v1/",
            api_key=token,
            timeout=timeout,
            max_retries=0,  # the governor has to hear of every refusal, and decides when the next call starts
            # Half the processor time of the default one, see docs/decisions/0006. It is the governor that limits calls.
            http_client=DefaultAioHttpClient(limits=httpx2.Limits(max_connections=MOST_CONCURRENCY)),
        )
        self._starting = asyncio.Lock()
        self._endpoint = endpoint
        self._timeout = timeout
        self._governor = governor
        self._rng = SystemRandom()

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def ask(self, question: Question, image: PreparedImage) -> Reply:
        """Ask about `image`, again after a short wait if that is all it takes.

        Raises:
            PermanentFailure: content_filtered, model_refused, request_rejected.
            RetryableFailure: throttling, outages, time-outs, connections that break, garbled answers.
            OperatorFailure: the identity lacks its role, the deployment does not exist or is retired.
        """
        body = request_body(question, image)
        attempt, earlier = 1, None
        while True:
            try:
                return await self._ask_once(question, body)
            except Busy as busy:
                raise earlier or busy from None  # a call that failed was tried, whatever came of the next one
            except (OperatorFailure, TimedOut):
                raise
            except RetryableFailure as failure:
                earlier = failure
                wait = wait_in_place(attempt, failure.retry_after, self._rng)
                if wait is None:
                    raise
                told = {"deployment": question.deployment, "error_type": error_type(failure)}
                logger.info("Asking again: %s", failure.message, extra=told)
                if failure.status != 429:  # when throttled, the governor holds the next turn as long as it has to
                    await asyncio.sleep(wait)
            attempt += 1

    async def _ask_once(self, question: Question, body: RequestBody) -> Reply:
        # As the service counts: the prompt, and all that the answer may need, are charged when the call arrives.
        async with self._governor.turn(question.deployment, PROMPT_TOKENS + question.max_output_tokens) as turn:
            with calling_model(
                self._endpoint,
                question.deployment,
                max_output_tokens=question.max_output_tokens,
                as_json=question.schema is not None,
            ) as replied:
                response = await self._post(question.deployment, body, turn)
                reply = read_reply(response.content, response.headers)
                replied(reply)
        return reply

    async def _post(self, deployment: str, body: RequestBody, turn: Turn) -> httpx2.Response:
        try:
            async with asyncio.timeout(self._timeout):
                # Many may get their turns at once. One begins in each turn of the event loop, so that it is never held
                # up for long, and the first is sent before the last is begun.
                async with self._starting:
                    await asyncio.sleep(0)
                response = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=body,
                    options={"headers": {"Content-Type": "application/json", "Content-Length": str(len(body))}},
                )
        except TimeoutError:
            turn.failed()
            raise TimedOut(f"The model did not answer within {self._timeout:g} seconds.") from None
        except APIStatusError as error:
            failure = _failure(error, deployment)
            if error.status_code == 429:
                turn.throttled(error.response.headers)
            elif isinstance(failure, RetryableFailure):
                turn.failed()
            else:  # an answer all the same: the service had room for the call
                turn.succeeded(error.response.headers)
            raise failure from error
        except (APIConnectionError, aiohttp.ClientError) as error:
            turn.failed()
            raise _connection_failure(error) from _on_the_wire(error)
        except ClientAuthenticationError as error:
            raise OperatorFailure(
                "The managed identity got no token for the model: check AZURE_CLIENT_ID and that the identity is"
                f" assigned to the function app ({_first_line(error)})."
            ) from error
        except AzureError as error:
            raise RetryableFailure(f"The identity endpoint did not answer ({_first_line(error)}).") from error
        turn.succeeded(response.headers)
        return response


def request_body(question: Question, image: PreparedImage) -> RequestBody:
    """The JSON of a chat completion request."""
    request: dict[str, Any] = {
        "model": question.deployment,
        # GPT-5 models reject max_tokens and any temperature but their own.
        "max_completion_tokens": question.max_output_tokens,
    }
    if question.reasoning_effort is not None:
        request["reasoning_effort"] = question.reasoning_effort
    if question.schema is not None:
        request["response_format"] = question.schema.response_format
    url = {"detail": question.detail, "url": f"data:{image.media_type};base64,"}
    request["messages"] = [
        {"role": "system", "content": question.system_prompt},
        {
            "role": "user",
            "content": [{"type": "text", "text": question.instructions}, {"type": "image_url", "image_url": url}],
        },
    ]
    return RequestBody.of(request, image.data)


def _text_of_parts(content: Any) -> Any:
    """Compatible servers may answer in parts, as requests are written."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content


def _count(tokens: Any) -> int | None:
    return int(tokens) if isinstance(tokens, int | float) and tokens >= 0 else None


def _without_half_characters(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: part.encode(errors="replace").decode() if isinstance(part, str) else part for key, part in value.items()
    }


type _Tokens = Annotated[int | None, BeforeValidator(_count)]


class _Message(BaseModel):
    content: Annotated[str | None, BeforeValidator(_text_of_parts)] = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    content_filter_results: Any = None


class _PromptDetails(BaseModel):
    cached_tokens: _Tokens = None


class _CompletionDetails(BaseModel):
    reasoning_tokens: _Tokens = None


class _Usage(BaseModel):
    prompt_tokens: _Tokens = None
    completion_tokens: _Tokens = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Completion(BaseModel):
    """The part of a chat completion that we read."""

    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_reply(body: bytes, headers: Mapping[str, str]) -> Reply:
    """The reply in a 200 response's `body`.

    Raises:
        PermanentFailure: content_filtered or model_refused.
        RetryableFailure: the body is no chat completion.
    """
    try:
        # What was paid for is kept if it can be: an answer may hold half a character, which has no UTF-8.
        whole = json.loads(body.decode(errors="replace"), object_hook=_without_half_characters)
        completion = _Completion.model_validate(whole)
    except (ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise RetryableFailure(f"The model's answer of {len(body)} bytes is no JSON.") from None
        raise RetryableFailure(
            f"The model's answer can't be read: {error.error_count()} problems in {len(body)} bytes,"
            f" first: {error.errors(include_url=False, include_input=False)[0]['msg']}."
        ) from None
    choice = completion.choices[0]
    if choice.finish_reason == "content_filter":
        raise _content_filtered("answer", choice.content_filter_results)
    if choice.message.refusal:
        raise PermanentFailure(
            ErrorCode.MODEL_REFUSED,
            f"The model declined to answer: {choice.message.refusal} Change the instructions or the image.",
            {"refusal": choice.message.refusal},
        )
    usage = completion.usage or _Usage()
    return Reply(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason,
        model=completion.model,
        request_id=headers.get("x-request-id"),
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        reasoning_tokens=(usage.completion_tokens_details or _CompletionDetails()).reasoning_tokens,
        cached_tokens=(usage.prompt_tokens_details or _PromptDetails()).cached_tokens,
    )


def _connection_failure(error: APIConnectionError | aiohttp.ClientError) -> RetryableFailure:
    cause = _on_the_wire(error)
    if isinstance(cause, TimeoutError):
        return RetryableFailure("The model did not answer in time.")
    return RetryableFailure(f"The connection to the model failed ({_first_line(cause)}).")


def _on_the_wire(error: BaseException) -> BaseException:
    """What happened, in aiohttp's words. Its adapter in the SDK calls a connection that was dropped a time-out, and
    lets an answer that is no HTTP through as it is.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    return cause or error.__cause__ or error


def _failure(error: APIStatusError, deployment: str) -> Failure:
    """What a refusal means for the work."""
    status, body = error.status_code, error.body if isinstance(error.body, Mapping) else {}
    if status == 400 and error.code == "content_filter":
        inner = body.get("innererror")
        inner = inner if isinstance(inner, Mapping) else {}
        return _content_filtered(
            "request", inner.get("content_filter_result") or inner.get("content_filter_results") or {}
        )
    where = f"HTTP {status}, request id {error.request_id}"
    match status:
        case 401 | 403:
            return OperatorFailure(
                "The model refused the app's identity: give it the role 'Cognitive Services OpenAI User' on the Azure"
                f" OpenAI resource ({where}).",
                status=status,
            )
        case 404 | 410:
            reason = "is retired" if status == 410 else "was not found"
            return OperatorFailure(
                f"The deployment '{deployment}' {reason}: check AZURE_OPENAI_DEPLOYMENT, AZURE_OPENAI_ENDPOINT and the"
                f" model's retirement date ({where}).",
                status=status,
            )
        case 408 | 409 | 429 | 500 | 502 | 503 | 504:
            return RetryableFailure(
                f"The model is {'throttling' if status == 429 else 'not available'} ({where}).",
                status=status,
                retry_after=asked_wait(error.response.headers),
            )
        case _ if status >= 500:
            return RetryableFailure(f"The model is not available ({where}).", status=status)
        case _:
            return PermanentFailure(
                ErrorCode.REQUEST_REJECTED,
                f"The model service rejected the request: {body.get('message') or _first_line(error)} ({where})",
                {"status": status, "code": error.code, "param": error.param},
            )


def _content_filtered(what: str, results: object) -> PermanentFailure:
    results = results if isinstance(results, Mapping) else {}
    hits = sorted(name for name, verdict in results.items() if isinstance(verdict, Mapping) and verdict.get("filtered"))
    return PermanentFailure(
        ErrorCode.CONTENT_FILTERED,
        f"Azure's content filter blocked the {what}{': ' + ', '.join(hits) if hits else ''}. Nothing will come of the"
        " same image with the same instructions: change one of them, or ask your administrator about the filter.",
        {"blocked": what, "categories": dict(results)},
    )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
