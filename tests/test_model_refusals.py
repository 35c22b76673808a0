"""When the model service gives no answer: its words, what they mean, what was paid, and what the governor hears.

Over the wire, from the stand-in to the real SDK.
"""

import asyncio
import base64
import json
import logging
import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.model_responses import (
    ANSWERED,
    DECLINED,
    EMPTY,
    FILTERED,
    NOT_FILTERED,
    OPERATORS,
    PASSING,
    PROMPT,
    REJECTED,
    TRUNCATED,
    UNREADABLE,
    choosing,
    error,
    said,
)

from localcloud.certificates import Certificates
from localcloud.model import (
    FILTERED_WITHOUT_MESSAGE,
    FORBIDDEN,
    INSUFFICIENT_QUOTA,
    MODEL,
    NO_CHOICES,
    ONLY_REASONING,
    REQUEST_TOO_LARGE,
    Answer,
    AnswerFiltered,
    Asked,
    Behaviour,
    Garbled,
    LocalModel,
    PromptFiltered,
    Refusal,
    Throttled,
)
from pipeline.errors import ErrorCode, Failure, OperatorFailure, PermanentFailure, RetryableFailure
from pipeline.images import PreparedImage
from pipeline.model.azure_openai import UNREADABLE_TRIES, AzureOpenAIModel
from pipeline.model.foreign_text import MOST_SHOWN, quoted
from pipeline.model.question import Question, Reply
from pipeline.model.reasons import reason_in, request_id_in
from pipeline.model.refusals import refusal
from pipeline.model.replies import UnreadableAnswer, read_reply
from pipeline.pacing.governor import Governor
from pipeline.pacing.lane import Lane

SYSTEM = "You read delivery notes for a warehouse in Trondheim."
QUESTION = Question(PROMPT, "vision", SYSTEM, "auto", 100)


def picture() -> PreparedImage:
    buffer = BytesIO()
    Image.effect_noise((64, 48), 80).save(buffer, "PNG")
    return PreparedImage(data=buffer.getvalue(), format="png", width=64, height=48, transformed=False)


PICTURE = picture()


@dataclass
class Service:
    """The stand-in, scripted for each question."""

    endpoint: str
    scripts: defaultdict[str, deque[Behaviour]] = field(default_factory=lambda: defaultdict(deque))
    calls: defaultdict[str, list[Asked]] = field(default_factory=lambda: defaultdict(list))

    def behave(self, asked: Asked) -> Behaviour:
        self.calls[asked.instructions].append(asked)
        script = self.scripts[asked.instructions]
        return script.popleft() if script else Answer("A boat.")


@dataclass
class Met:
    """The outcome of one question."""

    outcome: Reply | Failure
    calls: list[Asked]

    @property
    def failure(self) -> Failure:
        assert isinstance(self.outcome, Failure)
        return self.outcome

    @property
    def permanent(self) -> PermanentFailure:
        assert isinstance(self.outcome, PermanentFailure)
        return self.outcome

    @property
    def details(self) -> dict[str, Any]:
        return dict(self.permanent.details or {})

    @property
    def reply(self) -> Reply:
        reply = self.outcome if isinstance(self.outcome, Reply) else self.outcome.reply
        assert reply
        return reply

    @property
    def paid(self) -> tuple[str | None, int | None, int | None]:
        return self.reply.model, self.reply.input_tokens, self.reply.output_tokens


@pytest.fixture(scope="module")
async def service(certificates: Certificates) -> AsyncIterator[Service]:
    def trust(_token: str) -> dict[str, Any]:
        return {}

    async with LocalModel(certificates, verify=trust) as model:
        service = Service(model.endpoint)
        model.script.policy = service.behave
        with pytest.MonkeyPatch.context() as environment:
            # Not the bundle: the Internet's authorities take a client longer to load than most tests here last.
            environment.setenv("SSL_CERT_FILE", str(certificates.authority))
            yield service


@asynccontextmanager
async def asking(service: Service) -> AsyncIterator[tuple[AzureOpenAIModel, Governor]]:
    async def token() -> str:
        return "a-token"

    governor = Governor(most_in_flight=8, patience=60)
    model = AzureOpenAIModel(service.endpoint, token, 60, governor)
    try:
        yield model, governor
    finally:
        await model.close()


async def meet(service: Service, *behaviours: Behaviour, instructions: str = "") -> Met:
    """Ask a question, to which the service behaves like that."""
    asked = instructions or f"Question {len(service.scripts)}"
    service.scripts[asked].extend(behaviours)
    question = Question(asked, "vision", SYSTEM, "auto", 100, "high")
    async with asking(service) as (model, _):
        try:
            return Met(await model.ask(question, PICTURE), service.calls[asked])
        except Failure as failure:
            return Met(failure, service.calls[asked])


# ---- What it means ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
async def test_failures_for_the_operator_quote_the_service(service: Service, name: str) -> None:
    """And is not asked again at once."""
    status, behaviour, kind, advice, words = OPERATORS[name]
    met = await meet(service, behaviour)
    assert isinstance(met.failure, OperatorFailure)
    assert (type(met.failure), met.failure.status) == (kind, status)
    assert advice in met.failure.message
    assert words in met.failure.message
    assert met.reply == Reply("", None, None, met.calls[0].request_id, endpoint="127.0.0.1")
    assert f"request id {met.calls[0].request_id})" in met.failure.message
    assert len(met.calls) == 1


@pytest.mark.usefixtures("short_pauses")
async def test_failures_of_the_servers_state_are_asked_again(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipeline.model.azure_openai")
    met = await asyncio.gather(*(meet(service, behaviour) for behaviour, _ in PASSING.values()))
    assert [(name, one.reply.text, len(one.calls)) for name, one in zip(PASSING, met, strict=True)] == [
        (name, "A boat.", 2) for name in PASSING
    ]
    logged = [record.message for record in caplog.records if record.name == "pipeline.model.azure_openai"]
    assert [name for name, (_, words) in PASSING.items() if not any(words in line for line in logged)] == []


@pytest.mark.parametrize("name", REJECTED)
async def test_a_rejection_by_the_service_is_a_failure_that_quotes_it(
    service: Service, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    response, code, param, words = REJECTED[name]
    met = await meet(service, response)
    assert met.permanent.code is ErrorCode.REQUEST_REJECTED
    assert met.details == {"status": response.status, "code": code, "param": param, "service_message": words or None}
    assert (f'It says: "{words}" (HTTP' if words else "It gives no reason (HTTP") in met.failure.message
    assert [record.message for record in caplog.records] == [f"No answer: {met.failure.message}"]
    assert met.reply == Reply("", None, None, met.calls[0].request_id, endpoint="127.0.0.1")
    assert len(met.calls) == 1


@pytest.mark.parametrize("name", FILTERED)
async def test_a_content_filter_is_recognized_in_any_shape(service: Service, name: str) -> None:
    behaviour, blocked, categories = FILTERED[name]
    met = await meet(service, behaviour)
    assert met.permanent.code is ErrorCode.CONTENT_FILTERED
    assert met.details["blocked"] == blocked
    assert {name for name, verdict in met.details["categories"].items() if verdict["filtered"]} == categories
    assert all(category in met.failure.message for category in categories)
    assert (met.reply.text, met.reply.request_id) == ("", met.calls[0].request_id)
    assert len(met.calls) == 1


@pytest.mark.parametrize("name", NOT_FILTERED)
async def test_an_answer_that_the_content_filter_lets_pass_is_an_answer(service: Service, name: str) -> None:
    assert (await meet(service, NOT_FILTERED[name])).reply.text


@pytest.mark.parametrize("name", ANSWERED)
async def test_an_answer_is_found_in_any_shape_and_paid_once(service: Service, name: str) -> None:
    behaviour, text = ANSWERED[name]
    met = await meet(service, behaviour)
    assert (met.reply.text, len(met.calls)) == (text, 1)


@pytest.mark.parametrize("reason", TRUNCATED)
async def test_an_answer_that_was_cut_says_so(service: Service, reason: str) -> None:
    reply = (await meet(service, choosing(finish_reason=reason))).reply
    assert (reply.text, reply.finish_reason, reply.truncated) == ("A picture.", reason, True)


@pytest.mark.parametrize("name", DECLINED)
async def test_a_models_refusal_is_a_failure_that_quotes_it(service: Service, name: str) -> None:
    behaviour, words = DECLINED[name]
    met = await meet(service, behaviour)
    assert met.permanent.code is ErrorCode.MODEL_REFUSED
    assert met.details == {"refusal": words}
    begin = f"declined to answer: {words} Change" if words else "declined to answer, and gives no reason. Change"
    assert begin in met.failure.message
    assert len(met.calls) == 1


@pytest.mark.parametrize("name", EMPTY)
async def test_an_answer_without_a_word_is_a_failure_that_says_what_to_change(service: Service, name: str) -> None:
    behaviour, words = EMPTY[name]
    met = await meet(service, behaviour)
    assert met.permanent.code is ErrorCode.EMPTY_ANSWER
    assert words in met.failure.message
    assert "reasoning_effort (now high)" in met.failure.message
    assert met.details == {
        "finish_reason": met.reply.finish_reason,
        "reasoning_tokens": 100 if behaviour is ONLY_REASONING else 0,
    }
    assert (met.reply.text, met.reply.model) == ("", MODEL)
    assert met.reply.input_tokens
    assert len(met.calls) == 1


@pytest.mark.usefixtures("short_pauses")
async def test_an_answer_that_can_not_be_read_is_asked_for_a_few_times_and_not_for_a_day(service: Service) -> None:
    met = await asyncio.gather(
        *(meet(service, *[behaviour] * UNREADABLE_TRIES) for behaviour, _, _ in UNREADABLE.values())
    )
    for (_, code, words), one in zip(UNREADABLE.values(), met, strict=True):
        assert one.permanent.code is code
        assert words in one.failure.message
        assert f"asked {UNREADABLE_TRIES} times" in one.failure.message
        assert len(one.calls) == UNREADABLE_TRIES
        assert one.reply.request_id == one.calls[-1].request_id


@pytest.mark.usefixtures("short_pauses")
async def test_other_failures_in_between_do_not_count_as_answers_that_can_not_be_read(service: Service) -> None:
    met = await meet(service, Garbled(), Throttled(retry_after_ms=10), Garbled(), Answer("A boat."))
    assert (met.reply.text, len(met.calls)) == ("A boat.", 4)


# ---- What was paid ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_pauses")
async def test_the_tokens_of_a_failed_call_are_known(service: Service) -> None:
    model, image, answer = (await meet(service, Answer("A boat."), instructions="What did it cost, 99?")).paid
    assert image
    assert answer
    cut = 3  # tokens of the answer in those without one
    outcomes: dict[str, tuple[list[Behaviour], tuple[str | None, int | None, int | None]]] = {
        "filtered": ([AnswerFiltered(text="A boat.")], (model, image, answer)),
        "filtered without a message": ([FILTERED_WITHOUT_MESSAGE], (model, image, cut)),
        "refused": ([Refusal("A boat.")], (model, image, answer)),
        "empty": ([ONLY_REASONING], (model, image, 100)),
        "no choices, thrice": ([NO_CHOICES] * UNREADABLE_TRIES, (model, 3 * image, 3 * cut)),
        "no choices, then answered": ([NO_CHOICES, Answer("A boat.")], (model, 2 * image, cut + answer)),
        "no choices, then refused": ([NO_CHOICES, Refusal("A boat.")], (model, 2 * image, cut + answer)),
        "no choices, then rejected": ([NO_CHOICES, said(400, "{}")], (model, image, cut)),
        "no choices, then the operator's": ([NO_CHOICES, FORBIDDEN], (model, image, cut)),
        "garbled, then answered": ([Garbled(), Answer("A boat.")], (model, image, answer)),
        "turned away": ([PromptFiltered()], (None, None, None)),
    }
    met = await asyncio.gather(
        *(  # as long a question as the first one's, so that each costs the same
            meet(service, *behaviours, instructions=f"What did it cost, {number:02}?")
            for number, (behaviours, _) in enumerate(outcomes.values())
        )
    )
    paid = {name: one.paid for name, one in zip(outcomes, met, strict=True)}
    assert paid == {name: wanted for name, (_, wanted) in outcomes.items()}


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "12", "completion_tokens": "34"},
        {"input_tokens": 12, "output_tokens": 34},
        {"prompt_tokens": None, "input_tokens": "12", "completion_tokens": "?", "output_tokens": 34.0},
    ],
)
def test_token_counts_are_read_under_other_names_and_from_digits(usage: dict[str, Any]) -> None:
    details = {"input_tokens_details": {"cached_tokens": 5}, "output_tokens_details": {"reasoning_tokens": "6"}}
    completion = {"choices": [{"message": {"content": "A boat."}}], "usage": usage | details}
    reply = read_reply(json.dumps(completion).encode(), {}, QUESTION)
    assert (reply.input_tokens, reply.output_tokens, reply.cached_tokens, reply.reasoning_tokens) == (12, 34, 5, 6)


@pytest.mark.parametrize("tokens", ["Infinity", "NaN", "-1", "1e400", "true", '"many"', "[]", "9" * 400, "null"])
def test_an_odd_count_spoils_no_answer(tokens: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": "A boat."}}], "model": 7, "usage": {"prompt_tokens": "?"}})
    reply = read_reply(body.replace('"?"', tokens).encode(), {}, QUESTION)
    assert (reply.text, reply.model, reply.input_tokens) == ("A boat.", None, None)


# ---- What the governor hears -----------------------------------------------------------------------------------------


async def ask_often(service: Service, behaviour: Behaviour, times: int) -> Governor:
    """Ask one question after the other through one governor; all meet the same."""
    asked = f"Question {len(service.scripts)}"
    service.scripts[asked].extend([behaviour] * times)
    async with asking(service) as (model, governor):
        for _ in range(times):
            with pytest.raises(Failure):
                await model.ask(Question(asked, "vision", SYSTEM, "auto", 100), PICTURE)
    assert len(service.calls[asked]) == times
    return governor


@pytest.mark.parametrize(
    "behaviour",
    [REQUEST_TOO_LARGE, error(400, "No."), error(422, "No."), PromptFiltered(), Refusal(), ONLY_REASONING],
    ids=["too large", "rejected", "validation", "filtered", "refused", "empty"],
)
async def test_a_failure_of_one_request_does_not_slow_others(service: Service, behaviour: Behaviour) -> None:
    state = (await ask_often(service, behaviour, times=12)).state(Lane("vision"))
    assert (state.pace, state.paused_for, state.limit) == (None, 0, 8)


async def test_an_empty_account_is_not_throttling(service: Service) -> None:
    state = (await ask_often(service, INSUFFICIENT_QUOTA, times=4)).state(Lane("vision"))
    assert (state.pace, state.paused_for) == (None, 0)


# ---- The words -------------------------------------------------------------------------------------------------------

BASE64 = base64.b64encode(PICTURE.data).decode()
TEXTS = [PROMPT, SYSTEM, "Hvor mange kasser røkt laks står på kaia nå?", "夜行列車で届いた燻製の鮭はどれですか"]
REPEATED: list[Callable[[str], str]] = [
    str,
    str.upper,
    json.dumps,
    lambda text: json.dumps(text.replace(" ", "\n")),
    lambda text: json.dumps(json.dumps({"text": text})),
    lambda text: ascii([{"type": "text", "text": text}]),
    lambda text: text.replace(" ", "&#32;").replace("?", "&#63;"),
    lambda text: text[7:60],
    "\u200b".join,
    lambda text: f"1 validation error\n  Input [type=x, input_value={text[:20]}...{text[-20:]}, input_type=str]",
]


@pytest.mark.parametrize("private", TEXTS)
@pytest.mark.parametrize("way", range(len(REPEATED)))
def test_words_repeat_nothing_of_what_was_asked(private: str, way: int) -> None:
    words = quoted(f"The value {REPEATED[way](private)} is not accepted here.", [private])
    assert words.startswith("The value ")
    assert "…" in words
    letters, kept = ("".join(filter(str.isalnum, text.lower())) for text in (private, words))
    assert not [letters[n : n + 12] for n in range(len(letters) - 11) if letters[n : n + 12] in kept]


@pytest.mark.parametrize(
    "repeated",
    [
        f"data:image/png;base64,{BASE64}",
        f"data:image/png;base64,{BASE64[:24]}...{BASE64[-20:]}",
        BASE64,
        BASE64[:40],
        f"input_value='{BASE64[:24]}...{BASE64[-20:]}', input_type=str",
        base64.b64encode(bytes(60)).decode(),
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6InJ0c0ZU.eyJhdWQiOiJodHRwczovL21hbmFnZW1lbnQuY29yZS53aW5kb3dz",
        json.dumps(BASE64).replace("/", "\\/"),
    ],
)
def test_words_hold_nothing_of_an_image_or_a_key(repeated: str) -> None:
    words = quoted(f"Cannot read {repeated} as an image.", [])
    assert words.startswith("Cannot read ")
    for piece in (BASE64[:20], BASE64[-20:], "AAAAAAAAAAAAAAAA", "eyJ0eXAiOiJKV1Qi"):
        assert piece not in words


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklm",
        "sk-proj-abcdefgh_ijklm",
        "sk_live_abcdefgh",
        "Bearer abcd1234efgh",
        "api_key=abcd1234",
        "'api-key': 'abcd1234'",
        "?sig=abcd1234&se=2026",
        "<openai.Stream object at 0x7f8f617ab350>",
        "http://10.0.0.3",
        "10.0.0.3:8000",
        "172.20.1.2",
        "192.168.0.1",
        "http://127.0.0.1:8000/v1/chat",
        "http://localhost:8000/v1",
        "http://vllm-0.vllm.default.svc:8000/v1",
        "https://gpu.internal/x",
    ],
)
def test_words_hold_no_key_and_no_address_inside_the_service(secret: str) -> None:
    words = quoted(f"It failed with {secret} in the backend.", [])
    assert words.startswith("It failed with ")
    assert words.endswith(" in the backend.")
    for piece in ("abcd", "0x7f", "10.0.0.3", "172.20", "192.168", "127.0", "localhost", "vllm", "gpu"):
        assert piece not in words


@pytest.mark.parametrize(
    "words",
    [
        "Bearer authentication is required: get a token for https://cognitiveservices.azure.com.",
        "Client address 20.10.0.3 is not allowed (0x80070005); token: Unauthorized",
        "Your task-description is too long, and so is risk-assessment-of-tomorrow.",
        "It lacks the data action `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action`.",
        "See https://platform.openai.com/docs/guides/error-codes/api-errors or https://aka.ms/oai/quotaincrease",
        "Ref A: 1D6FE5DE1D1C4B9F9B1B1F5C6F1E0C2A Ref B: OSL30EDGE0411 Ref C: 2026-03-14T10:20:05Z",
        "Model gpt-5.4-mini-2026-03-17 of API version 2024-08-01-preview; trace 8da869cc-4215-40d2-b2f0-392a4c54dfa7",
        "Microsoft-Azure-Application-Gateway/v2",
    ],
)
def test_words_keep_what_an_operator_needs(words: str) -> None:
    assert quoted(words, [PROMPT, SYSTEM, "Describe this image."]) == words


@pytest.mark.parametrize("name", ["x-request-id", "apim-request-id", "x-ms-request-id", "x-azure-ref", "request-id"])
def test_the_calls_id_is_found_in_every_header_that_may_have_it(name: str) -> None:
    assert request_id_in({name: "8da869cc\r\n", "date": "today"}) == "8da869cc"


def test_a_request_that_is_repeated_as_a_whole_is_found_out() -> None:
    """FastAPI's answer to what it can't validate: megabytes, with the image among them."""
    image = base64.b64encode(bytes(range(256)) * 8000).decode()
    content = [
        {"type": "text", "text": PROMPT},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
    ]
    problem = {"type": "string_type", "loc": ["body", "messages", 1, "content", "str"], "msg": "Not a string"}
    for detail in ({**problem, "input": content}, {"input": content, **problem}):
        message = reason_in(422, {}, json.dumps({"detail": [detail]}).encode(), QUESTION).message
        assert len(message) <= MOST_SHOWN
        assert not [private for private in (PROMPT[:20], "base64,", image[:30]) if private in message]


# ---- Anything at all -------------------------------------------------------------------------------------------------

KEYS = [
    "error", "message", "code", "type", "detail", "innererror", "content_filter_result", "choices", "usage", "loc",
    "msg", "finish_reason", "content", "metadata", "raw", "filtered", "hate", "refusal", "input",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=30,
)


@given(status=st.integers(300, 599), document=JSON)
def test_any_refusal_has_a_meaning(status: int, document: Any) -> None:
    failure = refusal(reason_in(status, {}, json.dumps(document).encode(), QUESTION), {}, QUESTION)
    assert isinstance(failure, PermanentFailure | RetryableFailure)
    assert failure.message.isprintable()
    assert len(failure.message) < 1000


@given(JSON)
def test_any_answer_is_read_or_refused(document: Any) -> None:
    try:
        text = read_reply(json.dumps(document).encode(), {}, QUESTION).text
    except Failure as failure:
        text = "" if failure.reply and not failure.reply.text else "a failure has what was paid, and no text"
        assert isinstance(failure, PermanentFailure | RetryableFailure)  # noqa: PT017 - either may come of it
        assert text == ""
    else:
        assert text


PARTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8", exclude_characters="{[<0NTF"), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "value", "type", "refusal", "content", "reason"]), inner, max_size=3)
    ),
    max_leaves=8,
)
"""Anything, whose strings hold nothing that looks like a Python object's name."""
FINISH_REASONS = PARTS | st.sampled_from([*TRUNCATED, "stop", "refusal", "error", "SAFETY"])
USAGE = PARTS | st.fixed_dictionaries({}, optional={"prompt_tokens": PARTS, "completion_tokens": PARTS})
MESSAGES = st.fixed_dictionaries({"content": PARTS}, optional={"refusal": PARTS, "role": PARTS})
CHOICES = st.fixed_dictionaries(
    {"message": PARTS | MESSAGES},
    optional={"finish_reason": FINISH_REASONS, "error": PARTS, "content_filter_results": PARTS},
)
ANSWERS = st.fixed_dictionaries(
    {"choices": st.lists(PARTS | CHOICES, min_size=1, max_size=2)}, optional={"usage": USAGE}
)
ERRORS = st.fixed_dictionaries({}, optional={"message": PARTS, "code": PARTS, "type": PARTS})
DETAILS = st.lists(st.fixed_dictionaries({"msg": PARTS, "loc": PARTS}), max_size=2)
REFUSALS = st.fixed_dictionaries({}, optional={"error": PARTS | ERRORS, "detail": PARTS | DETAILS, "code": PARTS})


def strings_in(document: Any) -> list[str]:
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return [document] if isinstance(document, str) else [text for part in inner for text in strings_in(part)]


def is_made_of(text: str, strings: list[str]) -> bool:
    """Whether `text` is some of the `strings`, one after the other."""
    ends = {0}
    for end in range(1, len(text) + 1):
        if any(end - len(string) in ends and text[:end].endswith(string) for string in strings if string):
            ends.add(end)
    return len(text) in ends


@given(ANSWERS | REFUSALS | PARTS)
def test_nothing_in_a_completion_is_shown_as_a_python_object(document: Any) -> None:
    """It ends in an answer that the service wrote, or in a failure by name, whose words are JSON's and ours."""
    try:
        reply = read_reply(json.dumps(document).encode(), {}, QUESTION)
    except (PermanentFailure, RetryableFailure) as failure:
        details = getattr(failure, "details", None)
        said = [failure.message, *strings_in(json.loads(json.dumps(details, allow_nan=False)))]
        for words in said:
            assert not re.search(r"\{'|\['|\{\}|\[\]|<class|\b0x[0-9a-f]{4}|\b(?:None|True|False)\b", words), words
    else:
        assert is_made_of(reply.text, strings_in(document))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_that_can_not_be_read(body: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        read_reply(body + b"}", {}, QUESTION)
