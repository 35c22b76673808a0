"""The meaning of the model service's refusals: what follows, and what an operator can do. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.errors import REFUSED_TIER, ErrorCode, Failure, OperatorFailure, PermanentFailure, RetryableFailure
from pipeline.model.foreign_text import shown
from pipeline.model.original import is_about_original, not_taken
from pipeline.model.question import SENT, Question, Reply
from pipeline.model.reasons import Reason, Verdict
from pipeline.pacing.waits import asked_wait, seconds_of

MOMENTARY = frozenset({408, 409, 421, 423, 424, 425, 429, 449, 498, 499})
"""Client errors that speak of the server's moment: its time-out, a conflict, a misdirected connection, a lock, another
service that failed, a possible replay, throttling, Microsoft's "retry with", Groq's lack of capacity, a caller that
seemed to be gone."""
LONGEST_THROTTLING = 3600.0
"""Seconds. No limit by the minute asks for a longer wait. Quotas by the day do, and so does Azure OpenAI ("retry after
86400 seconds") when one request is larger than a minute's quota."""


class QuotaUsedUp(OperatorFailure):
    """An allowance is used up, and waiting a minute does not help: money, a gateway's quota, a quota by the day."""


class NoFlexCapacity(RetryableFailure):
    """There is no capacity at the tier `flex` for now. `patience` is how many seconds the work waits for that."""

    def __init__(self, message: str, *, patience: float, retry_after: float | None) -> None:
        super().__init__(message, status=429, retry_after=retry_after)
        self.patience = patience


class RequestTooLarge(OperatorFailure):
    """One request needs more tokens than the deployment may take in a minute."""


def refusal(reason: Reason, headers: Mapping[str, str], question: Question) -> Failure:
    """A refusal as a failure of the work. `headers` are case-insensitive or in lower case."""
    failure = _meaning(reason, headers, question)
    failure.reply = Reply("", None, None, reason.request_id)
    return failure


def content_filtered(what: str, categories: Verdict, reason: Reason | None = None) -> PermanentFailure:
    """The failure for a `what` ("request" or "answer") that a content filter stopped."""
    hits = [name for name, category in sorted(categories.items()) if category["filtered"]]
    return PermanentFailure(
        ErrorCode.CONTENT_FILTERED,
        f"Azure's content filter blocked the {what}{': ' + ', '.join(hits) if hits else ''}. Nothing will come of the"
        " same image with the same instructions: change one of them, or ask your administrator about the filter."
        + (f" {reason.words}" if reason else ""),
        {"blocked": what, "categories": dict(categories), **(reason.details if reason else {})},
    )


def _meaning(reason: Reason, headers: Mapping[str, str], question: Question) -> Failure:
    status, retry_after = reason.status, asked_wait(headers)
    if reason.filtered:
        return content_filtered("request", reason.categories, reason)
    if advice := _advice(reason, headers, question):
        return advice.kind(f"{advice.text} {reason.words}", status=status, retry_after=retry_after)
    if about_option := _about_option(reason, question, retry_after):
        return about_option
    if status in MOMENTARY or status >= 500:
        what = "throttling" if status == 429 else "not available"
        return RetryableFailure(f"The model is {what}. {reason.words}", status=status, retry_after=retry_after)
    return PermanentFailure(
        ErrorCode.REQUEST_REJECTED,
        f"The model service rejected the request. {reason.words}",
        {**reason.details, "param": reason.param},
    )


_OF_TIER = re.compile(r"service[ _]tier|(?:flex|priority) processing", re.IGNORECASE)


def _about_option(reason: Reason, question: Question, retry_after: float | None) -> Failure | None:
    """What a refusal of the tier or the detail means; None for a refusal of something else."""
    names_it = reason.param == "service_tier" or _OF_TIER.search(reason.message)
    if reason.status == 400 and question.service_tier in SENT and names_it:
        return _no_such_tier(reason, question)
    if reason.status == 429 and question.service_tier == "flex":
        return NoFlexCapacity(
            f"The service has no capacity at the tier 'flex' now. {reason.words}",
            patience=question.buying.flex_patience,
            retry_after=retry_after,
        )
    if is_about_original(reason, question):
        return not_taken(question, words=reason.words)
    return None


def _no_such_tier(reason: Reason, question: Question) -> Failure:
    """The failure where the model is not sold at the tier, for the option's author or for the operator."""
    tier, deployment = question.service_tier, shown(question.deployment, 100)
    if question.buying.by_option:
        return PermanentFailure(
            ErrorCode.INVALID_INSTRUCTIONS,
            f"'service_tier' is '{tier}', and the model of the deployment '{deployment}' is not sold at that tier:"
            f" leave the option out, or name another tier or another deployment. {reason.words}",
            {**reason.details, "option": "service_tier", REFUSED_TIER: tier},
        )
    return OperatorFailure(
        f"SERVICE_TIER is '{tier}', and the model of the deployment '{deployment}' is not sold at that tier: set it to"
        f" 'default', or deploy a model that is, as Global Standard. {reason.words}",
        status=reason.status,
    )


# ---- Advice ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Advice:
    """The problem and its cure by an operator, where waiting alone does not help."""

    text: str
    kind: type[OperatorFailure] = OperatorFailure


@dataclass(frozen=True, slots=True)
class _Cause:
    """Advice for refusals of these statuses whose code or words match."""

    statuses: frozenset[int]
    pattern: re.Pattern[str]
    advice: _Advice


def _cause(statuses: Iterable[int], pattern: str, text: str, kind: type[OperatorFailure] = OperatorFailure) -> _Cause:
    return _Cause(frozenset(statuses), re.compile(pattern, re.IGNORECASE), _Advice(text, kind))


_ROLE = "give it the role 'Cognitive Services OpenAI User' on the Azure OpenAI resource, and wait five minutes"
_ADDRESS = "the address of the Azure OpenAI resource, such as https://my-resource.openai.azure.com"
_NO_SERVICE = f"There is no model service at AZURE_OPENAI_ENDPOINT: set it to {_ADDRESS}."
_CAUSES = (
    _cause(
        {401, 402, 403, 429},
        r"insufficient_?quota|exceeded your current quota|billing|payment|insufficient (?:funds|credits?|balance)"
        r"|credit balance|SubscriptionDisabled|subscription (?:is |was |has been )?(?:disabled|suspended)",
        "The account has no money or quota left, and waiting does not bring it back: check the subscription's billing,"
        " spending limit and quota.",
        QuotaUsedUp,
    ),
    _cause(
        {403, 429},
        r"call volume|bandwidth quota|token quota|quota (?:is |has been )?exceeded|quota will be replenished",
        "The quota that a gateway, such as API Management, grants the app is used up: raise it there, or wait until it"
        " is renewed.",
        QuotaUsedUp,
    ),
    _cause(
        {401, 403},
        r"subscription key|api[ _-]?key|key.based auth|AuthenticationTypeDisabled",
        "A key is asked for, or a gateway has added one, while the app signs in with its managed identity alone. Set"
        f" AZURE_OPENAI_ENDPOINT to {_ADDRESS}, or have the gateway pass the app's token on.",
    ),
    _cause(
        {403},
        r"virtual network|firewall rules|cogsvc-vnet|public (?:network )?access is disabled|private endpoint"
        r"|traffic ?denied|ip address",
        "The resource's network rules turn the app away: admit its subnet under Networking of the Azure OpenAI"
        " resource; or reach it by its private endpoint, to whose address the resource's name then has to resolve.",
    ),
    _cause(
        {403},
        r"temporarily blocked|aoaicodeofconduct|violate our content policy|abuse",
        "Microsoft has blocked the Azure OpenAI resource because of what it was asked. Only Microsoft can lift that:"
        " look for its mail to the subscription's owners, and open a support request.",
    ),
    _cause(
        {403},
        r"unsupported_country|country, region|region.{0,20}not supported",
        "The service takes no calls from the app's region: move the app, or its way out to the internet.",
    ),
    _cause(
        {401, 403},
        r"PermissionDenied|data action|access to API/Operation|not authorized to perform|AuthorizationFailed",
        f"The model service refuses the app's identity: {_ROLE}.",
    ),
    _cause(
        {401},
        r"",
        "The model service does not accept the app's token. Check that AZURE_CLIENT_ID is the identity that is assigned"
        " to the function app, that AZURE_OPENAI_ENDPOINT is a resource of the same tenant, and the identity's role:"
        f" {_ROLE}.",
    ),
    _cause({402}, r"", "The service asks for payment: check the subscription's billing.", QuotaUsedUp),
    _cause(
        {405, 407},
        r"",
        f"{_NO_SERVICE} If it is, a proxy is in the way (HTTPS_PROXY): it has to let the app's calls through.",
    ),
)
_PAGE = _Advice(
    "Something in front of the model, such as a web application firewall or a proxy, refused the call with a page of"
    " its own. Its log names the rule; the rule has to let the app's calls through."
)
_FORBIDDEN = _Advice(
    f"The model service refuses the app. Usual causes are a missing role ({_ROLE}), the resource's network rules, and a"
    " gateway or web application firewall in front of it."
)
_BLOCKED = re.compile(r"request (?:is|was)? ?blocked", re.IGNORECASE)
_NO_ROUTE = re.compile(r"resource not found|unexpected endpoint|no route|cannot post", re.IGNORECASE)
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_LIMIT_AND_REQUESTED = re.compile(r"\blimit:? *([\d,]+).{0,80}?\brequested:? *([\d,]+)", re.IGNORECASE)
_AGAIN_IN = re.compile(r"(?:retry after|retry in|try again in) ([\d.]+(?:[hms][\dhms.]*)?)", re.IGNORECASE)


def _advice(reason: Reason, headers: Mapping[str, str], question: Question) -> _Advice | None:
    status, said = reason.status, f"{reason.code} {reason.message}"
    if 300 <= status < 400:
        return _Advice(_elsewhere(headers))
    if status in (401, 403) and (reason.is_page or _BLOCKED.search(said)):
        return _PAGE
    if status in (404, 410):
        return _Advice(_not_there(reason, said, question))
    if status == 429:
        return _beyond_throttling(reason, said, headers, question)
    return _cause_of(status, said) or (_FORBIDDEN if status == 403 else None)


def _elsewhere(headers: Mapping[str, str]) -> str:
    try:
        host = urlsplit(headers.get("location", "")).netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    return (
        f"AZURE_OPENAI_ENDPOINT redirects to {shown(host, 100) if host else 'another address'}, where no image is sent:"
        f" set it to {_ADDRESS}. If it is, a proxy is in the way (HTTPS_PROXY): it has to let the app's calls through."
    )


def _not_there(reason: Reason, said: str, question: Question) -> str:
    deployment = shown(question.deployment, 100)
    if reason.status == 410:
        return (
            f"The deployment '{deployment}' is retired: deploy a current model under the same name, or change"
            " AZURE_OPENAI_DEPLOYMENT."
        )
    if reason.is_page or _NO_ROUTE.search(said):
        return _NO_SERVICE
    return (
        f"The deployment '{deployment}' was not found: check AZURE_OPENAI_DEPLOYMENT, AZURE_OPENAI_ENDPOINT and the"
        " model's retirement date."
    )


def _cause_of(status: int, said: str) -> _Advice | None:
    return next((cause.advice for cause in _CAUSES if status in cause.statuses and cause.pattern.search(said)), None)


def _beyond_throttling(reason: Reason, said: str, headers: Mapping[str, str], question: Question) -> _Advice | None:
    """Advice for a 429 that waiting a minute does not cure."""
    deployment, lower = shown(question.deployment, 100), f"lower max_output_tokens (now {question.max_output_tokens:,})"
    if _TOO_LARGE.search(said) or _needs_more_than_all(said):
        return _Advice(
            f"This request needs more tokens than the deployment '{deployment}' may take in a minute: raise the"
            f" deployment's quota, {lower} or the image's detail, or shorten the instructions.",
            RequestTooLarge,
        )
    if "insufficientquota" in reason.codes:
        return _cause_of(429, said)
    again = _AGAIN_IN.search(said)
    waits = (seconds_of(headers.get("retry-after")) or 0.0, (seconds_of(again[1].rstrip(".")) or 0.0) if again else 0.0)
    if max(waits) >= LONGEST_THROTTLING:
        return _Advice(
            f"The deployment '{deployment}' asks to be left alone for {max(waits) / 3600:.0f} hours, as it does when a"
            " quota by the day is used up, or when one request needs more tokens than it may take in a minute: raise"
            f" the deployment's quota, or {lower}.",
            QuotaUsedUp,
        )
    # Google's words for any limit are those of an empty account; that it is not empty tells the time that it names.
    return None if again else _cause_of(429, said)


def _needs_more_than_all(said: str) -> bool:
    found = _LIMIT_AND_REQUESTED.search(said)
    limit, requested = (int(number.replace(",", "") or 0) for number in found.groups()) if found else (0, 0)
    return requested > limit
