"""Responses of model services that are not plain answers, as met in the wild, and what each means.

From public bug reports, of Azure OpenAI, API Management, Front Door and Application Gateway, OpenAI, OpenRouter,
LiteLLM, vLLM, Ollama, LM Studio and Google.
"""

import json
from typing import Any

from localcloud.model import (
    ABUSE_BLOCKED,
    DEPLOYMENT_NOT_FOUND,
    FAILED_DEPENDENCY,
    FILTERED_WITHOUT_MESSAGE,
    FIREWALL_PAGE,
    FORBIDDEN,
    GATEWAY_QUOTA,
    INSUFFICIENT_QUOTA,
    NO_CHOICES,
    ONLY_REASONING,
    PUBLIC_ACCESS_DISABLED,
    REQUEST_TOO_LARGE,
    RETIRED,
    ROLE_MISSING,
    SERVER_ERROR,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    AnswerFiltered,
    Behaviour,
    Changed,
    Garbled,
    PromptFiltered,
    Throttled,
    Verbatim,
)
from pipeline.errors import ErrorCode, OperatorFailure
from pipeline.model.refusals import QuotaUsedUp, RequestTooLarge

PROMPT = "Which pallets of smoked salmon came in on the night train, and who signed for them?"


def said(status: int, body: Any, **headers: str) -> Verbatim:
    """A response with `body`: bytes, text or JSON. An underscore in a header's name is a hyphen."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Verbatim(status, data, headers={name.replace("_", "-"): value for name, value in headers.items()})


def error(status: int, message: str, code: str | int | None = None, **more: Any) -> Verbatim:
    """OpenAI's shape, and that of Azure's gateway."""
    return said(status, {"error": {"message": message, "code": code, **more}})


def page(status: int, title: str) -> Verbatim:
    head, body = (
        f"<head><title>{title}</title></head>",
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>",
    )
    text = f"<html>\r\n{head}\r\n<body>\r\n{body}\r\n</body>\r\n</html>\r\n<!-- padding for MSIE -->\r\n"
    return Verbatim(status, text.encode(), "text/html")


FRONT_DOOR = Verbatim(
    403,
    b"<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Transitional//EN'>\n<html><head><style>h2 {color: red}</style>"
    b"<title>Blocked</title></head><body><h2>The request is blocked.</h2><p>20260314T1020Z-0x1</p></body></html>",
    "text/html",
)
NO_KEY = "Access denied due to missing subscription key. Make sure to include it when making requests."
WRONG_KEY = "Incorrect API key provided: eyJ0eXAi*****abcd. You can find your API key at https://platform.openai.com."
OTHER_ENDPOINT = (
    "A Virtual Network is configured for this resource. Please use the correct endpoint for making requests. Check"
    " https://aka.ms/cogsvc-vnet for more details."
)
A_DAY = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded token rate limit of your"
    " current OpenAI S0 pricing tier. Please retry after 86400 seconds."
)

OPERATORS: dict[str, tuple[int, Behaviour, type[OperatorFailure], str, str]] = {
    # its status, the response; the failure's kind, a part of the advice in it, the service's words in it
    "no role": (
        401,
        ROLE_MISSING,
        OperatorFailure,
        "'Cognitive Services OpenAI User'",
        "lacks the required data action",
    ),
    "no role, in older words": (
        401,
        error(401, "Principal does not have access to API/Operation.", "PermissionDenied"),
        OperatorFailure,
        "'Cognitive Services OpenAI User'",
        '"Principal does not have access to API/Operation." (HTTP 401, code PermissionDenied, request id',
    ),
    "token": (401, UNAUTHORIZED, OperatorFailure, "AZURE_CLIENT_ID", "audience is incorrect"),
    "no words": (401, said(401, b""), OperatorFailure, "AZURE_CLIENT_ID", "It gives no reason (HTTP 401, request id "),
    "gateway's key": (
        401,
        said(401, {"statusCode": 401, "message": NO_KEY}),
        OperatorFailure,
        "Set AZURE_OPENAI_ENDPOINT to",
        "missing subscription key",
    ),
    "OpenAI's key": (
        401,
        error(401, WRONG_KEY, "invalid_api_key", type="invalid_request_error", param=None),
        OperatorFailure,
        "Set AZURE_OPENAI_ENDPOINT to",
        "code invalid_api_key",
    ),
    "no keys": (
        403,
        error(403, "Key based authentication is disabled for this resource.", "AuthenticationTypeDisabled"),
        OperatorFailure,
        "pass the app's token on",
        "code AuthenticationTypeDisabled",
    ),
    "firewall": (403, FORBIDDEN, OperatorFailure, "admit its subnet", "Virtual Network/Firewall rules"),
    "private": (403, PUBLIC_ACCESS_DISABLED, OperatorFailure, "private endpoint", "Public access is disabled"),
    "other endpoint": (403, error(403, OTHER_ENDPOINT, "403"), OperatorFailure, "network rules", "aka.ms/cogsvc-vnet"),
    "abuse": (403, ABUSE_BLOCKED, OperatorFailure, "Microsoft has blocked", "temporarily blocked"),
    "abuse, through a proxy": (
        403,
        said(
            403, {"error": json.dumps({"error": {"code": "Forbidden", "message": "It has been temporarily blocked."}})}
        ),
        OperatorFailure,
        "Microsoft has blocked",
        '"It has been temporarily blocked."',
    ),
    "gateway's calls": (403, GATEWAY_QUOTA, QuotaUsedUp, "API Management", "replenished in 5.03:23:11"),
    "gateway's tokens": (
        403,
        said(403, {"statusCode": 403, "message": "Token quota is exceeded. Try again in 1209 seconds."}),
        QuotaUsedUp,
        "API Management",
        "Token quota is exceeded",
    ),
    "web application firewall": (
        403,
        FIREWALL_PAGE,
        OperatorFailure,
        "web application firewall",
        '"403 Forbidden Microsoft-Azure-Application-Gateway/v2"',
    ),
    "Front Door": (
        403,
        FRONT_DOOR,
        OperatorFailure,
        "web application firewall",
        '"The request is blocked. 20260314T1020Z-0x1"',
    ),
    "firewall's line": (403, said(403, '{"message":"Forbidden"}'), OperatorFailure, "Usual causes are", '"Forbidden"'),
    "region": (
        403,
        error(403, "Country, region, or territory not supported", "unsupported_country_region_territory"),
        OperatorFailure,
        "region",
        "code unsupported_country_region_territory",
    ),
    "credits": (402, error(402, "Insufficient credits.", 402), QuotaUsedUp, "billing", '"Insufficient credits."'),
    "payment": (402, said(402, b""), QuotaUsedUp, "billing", "HTTP 402"),
    "no deployment": (404, DEPLOYMENT_NOT_FOUND, OperatorFailure, "'vision' was not found", "does not exist"),
    "no model": (
        404,
        said(404, {"object": "error", "message": "The model does not exist.", "type": "NotFoundError", "code": 404}),
        OperatorFailure,
        "'vision' was not found",
        "code NotFoundError",
    ),
    "no path": (
        404,
        said(404, {"statusCode": 404, "message": "Resource not found"}),
        OperatorFailure,
        "no model service at AZURE_OPENAI_ENDPOINT",
        "Resource not found",
    ),
    "web site": (404, page(404, "404 Not Found"), OperatorFailure, "no model service at", '"404 Not Found nginx"'),
    "wrong method": (
        405,
        page(405, "405 Not Allowed"),
        OperatorFailure,
        "no model service at",
        '"405 Not Allowed nginx"',
    ),
    "retired": (410, RETIRED, OperatorFailure, "'vision' is retired", "code ModelDeprecated"),
    "money": (429, INSUFFICIENT_QUOTA, QuotaUsedUp, "billing", "code insufficient_quota"),
    "money, when a gateway names a time": (
        429,
        said(429, {"error": {"message": "You exceeded your quota.", "type": "insufficient_quota"}}, retry_after="30"),
        QuotaUsedUp,
        "billing",
        '"You exceeded your quota."',
    ),
    "too large": (
        429,
        REQUEST_TOO_LARGE,
        RequestTooLarge,
        "max_output_tokens (now 100)",
        "Limit 30000, Requested 36278",
    ),
    "too large, in other words": (
        429,
        error(429, "Rate limit: Limit 1,000, Used 0, Requested 1,200."),
        RequestTooLarge,
        "needs more tokens",
        "Requested 1,200",
    ),
    "a day": (429, error(429, A_DAY, "429"), QuotaUsedUp, "left alone for 24 hours", "retry after 86400 seconds"),
    "a day, by header": (429, said(429, b"", retry_after="86400"), QuotaUsedUp, "left alone for 24 hours", "HTTP 429"),
}

HIGH_DEMAND = (
    "The system is currently experiencing high demand and cannot process your request. Your request exceeds the maximum"
    " usage size allowed during peak load."
)
A_MINUTE = "Rate limit reached: Limit 30000, Used 28000, Requested 3000. Please try again in 10ms."
GOOGLES = "You exceeded your current quota, please check your plan and billing details. Please retry in 0.01s."

PASSING: dict[str, tuple[Behaviour, str]] = {
    # the response, and the service's words in the log
    "time-out": (
        error(408, "The operation was timeout.", "Timeout"),
        '"The operation was timeout." (HTTP 408, code Timeout',
    ),
    "conflict": (error(409, "Conflict.", type="conflict_error"), "code conflict_error"),
    "misdirected": (said(421, "Misdirected Request"), '"Misdirected Request"'),
    "locked": (said(423, {"detail": "Locked"}), "HTTP 423"),
    "failed dependency": (FAILED_DEPENDENCY, "code FailedDependency"),
    "model error": (said(424, {"detail": "Model error"}), '"Model error"'),
    "too early": (said(425, ""), "It gives no reason (HTTP 425"),
    "retry with": (said(449, ""), "HTTP 449"),
    "no capacity": (error(498, "Flex tier capacity exceeded.", type="capacity"), "Flex tier capacity exceeded."),
    "seemed gone": (error(499, "Client closed the request.", 499), "Client closed the request."),
    "server error": (SERVER_ERROR, "The server had an error"),
    "bad gateway": (page(502, "502 Bad Gateway"), '"502 Bad Gateway nginx"'),
    "unavailable": (UNAVAILABLE, "temporarily unable"),
    "Envoy": (said(503, "upstream connect error or disconnect/reset before headers"), "upstream connect error"),
    "time-out of a gateway": (said(504, {"statusCode": 504, "message": "GatewayTimeout"}), '"GatewayTimeout"'),
    "overloaded": (
        said(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        '"Overloaded" (HTTP 529, code overloaded_error',
    ),
    "Ollama": (error(500, "llama runner process has terminated", type="api_error"), "llama runner"),
    "filter out of order": (error(500, "The contents are not filtered", "content_filter_error"), "not filtered"),
    "throttled": (Throttled(retry_after_ms=10), "exceeded token rate limit"),
    "gateway's rate": (
        said(429, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 1 seconds."}, retry_after="0"),
        "Rate limit is exceeded.",
    ),
    "high demand": (
        said(429, {"error": {"code": "NoCapacity", "message": HIGH_DEMAND}}, retry_after_ms="10"),
        "code NoCapacity",
    ),
    "a minute's limit": (
        said(429, {"error": {"message": A_MINUTE}}, retry_after_ms="10"),
        "Used 28000, Requested 3000",
    ),
    "Google's words for it": (
        said(429, [{"error": {"code": 429, "message": GOOGLES}}], retry_after_ms="10"),
        "retry in",
    ),
    "throttled in a 200": (
        said(200, {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "Rate-limited."}}}),
        "Provider returned error: Rate-limited.",
    ),
    "overloaded in a 200": (said(200, {"error": {"message": "Overloaded, retry", "code": 503}}), "Overloaded, retry"),
}

BAD_EFFORT = "Invalid value: 'none'. Supported values are: 'low', 'medium', and 'high'."

REJECTED: dict[str, tuple[Verbatim, str | None, str | None, str]] = {
    # the response; code, param, and the service's words, all of them
    "option": (
        error(400, BAD_EFFORT, "invalid_value", type="invalid_request_error", param="reasoning_effort"),
        "invalid_value",
        "reasoning_effort",
        BAD_EFFORT,
    ),
    "page": (page(400, "400 Request Header Too Large"), None, None, "400 Request Header Too Large nginx"),
    "validation": (
        said(
            422,
            {
                "detail": [
                    {
                        "type": "missing",
                        "loc": ["body", "messages", 0, "name"],
                        "msg": "Field required",
                        "input": PROMPT,
                    },
                    {"type": "extra_forbidden", "loc": ["body", "detail"], "msg": "Extra inputs are not permitted"},
                ]
            },
        ),
        None,
        None,
        "body.messages.0.name: Field required; body.detail: Extra inputs are not permitted",
    ),
    "problem": (
        said(422, {"title": "Unprocessable", "detail": "The image is not supported."}),
        None,
        None,
        "The image is not supported.",
    ),
    "vLLM": (
        said(400, {"object": "error", "message": "Too long.", "type": "BadRequestError", "param": None, "code": 400}),
        "BadRequestError",
        None,
        "Too long.",
    ),
    "LM Studio": (said(400, {"error": "'url' field must be base64."}), None, None, "'url' field must be base64."),
    "LM Studio's validation": (said(400, {"error": '[\n  {"message": "Required"}\n]'}), None, None, "Required"),
    "OpenRouter": (
        error(400, "Provider returned error", 400, metadata={"raw": '{"error": {"message": "At most 1 image."}}'}),
        "400",
        None,
        "Provider returned error: At most 1 image.",
    ),
    "too large": (page(413, "413 Request Entity Too Large"), None, None, "413 Request Entity Too Large nginx"),
    "type": (error(415, "Unsupported Media Type"), None, None, "Unsupported Media Type"),
    "text": (said(400, "Bad Request"), None, None, "Bad Request"),
    "JSON text": (said(400, '"\\u8acb\\u6c42\\u7121\\u6548"'), None, None, "請求無效"),
    "no words": (said(400, b""), None, None, ""),
    "cut off": (said(400, '{"error": {"message": "The image is \\"odd\\".", "inp'), None, None, 'The image is "odd".'),
    "lines and colours": (error(400, "A\r\n\x1b[31mB\u202e\u2028C"), None, None, "A [31mB C"),
}

SAFE = {"filtered": False, "severity": "safe"}
HATE = {"hate": {"filtered": True, "severity": "high"}, "violence": SAFE}
POLICY = "The response was filtered due to the prompt triggering Microsoft's content management policy."
FLAGGED = "Invalid prompt: your prompt was flagged as potentially violating our usage policy."
LITELLM = "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - No."


def choosing(**changes: Any) -> Changed:
    """An answer whose choice is changed; `...` takes a part away."""

    def change(completion: dict[str, Any]) -> dict[str, Any]:
        choice = completion["choices"][0] | changes
        return completion | {"choices": [{key: value for key, value in choice.items() if value is not ...}]}

    return Changed(change)


FILTERED: dict[str, tuple[Behaviour, str, set[str]]] = {
    # the response; what was blocked, for which categories
    "request": (PromptFiltered("violence"), "request", {"violence"}),
    "its code alone": (error(400, "No.", "content_filter"), "request", set()),
    "image services' code": (
        said(200, {"created": 1, "error": {"code": "contentFilter", "message": "No."}}),
        "request",
        set(),
    ),
    "its words alone": (error(400, POLICY, "400"), "request", set()),
    "image": (
        error(400, "No.", "content_policy_violation", inner_error={"content_filter_results": HATE}),
        "request",
        {"hate"},
    ),
    "inner error": (error(400, "No.", innererror={"code": "ResponsibleAIPolicyViolation"}), "request", set()),
    "inner verdict": (error(400, "No.", innererror={"content_filter_result": HATE}), "request", {"hate"}),
    "custom blocklist": (
        error(400, "No.", innererror={"content_filter_result": {"custom_blocklists": [{"filtered": True, "id": "b"}]}}),
        "request",
        {"custom_blocklists"},
    ),
    "LiteLLM": (
        error(400, LITELLM, "400", provider_specific_fields={"innererror": {"content_filter_result": HATE}}),
        "request",
        {"hate"},
    ),
    "a proxy's text": (said(500, {"message": json.dumps({"error": {"code": "content_filter"}})}), "request", set()),
    "flagged": (error(400, FLAGGED, "invalid_prompt"), "request", set()),
    "in a 200": (said(200, {"error": {"code": "content_filter", "message": "No."}}), "request", set()),
    "in a 200, the prompt's verdict alone": (
        Changed(lambda answer: answer | {"choices": [], "prompt_filter_results": [{"content_filter_results": HATE}]}),
        "request",
        {"hate"},
    ),
    "answer": (AnswerFiltered("hate", text="It sh"), "answer", {"hate"}),
    "answer without a message": (FILTERED_WITHOUT_MESSAGE, "answer", {"hate"}),
    "answer with null for a message": (choosing(finish_reason="content_filter", message=None), "answer", set()),
    "answer without a verdict": (choosing(finish_reason="content_filter", content_filter_results=...), "answer", set()),
    "answer with an odd verdict": (
        choosing(finish_reason="content_filter", content_filter_results=["odd", {"hate": None}]),
        "answer",
        set(),
    ),
    "answer that its verdict alone marks": (choosing(content_filter_results=HATE), "answer", {"hate"}),
    **{
        reason: (choosing(finish_reason=reason, message={"content": ""}), "answer", set())
        for reason in (
            *("sensitive", "SAFETY", "RECITATION", "IMAGE_SAFETY", "BLOCKLIST", "blocklist", "PROHIBITED_CONTENT"),
            *("SPII", "guardrail_intervened", "contentFiltered", "content-filter", "content_policy_violation"),
        )
    },
}
NOT_FILTERED: dict[str, Behaviour] = {
    "noticed": choosing(content_filter_results={"protected_material_text": {"detected": True, "filtered": False}}),
    "filter out of order": choosing(content_filter_results={"error": {"code": "content_filter_error"}}),
    "the answer speaks of it": choosing(
        message={"content": json.dumps({"content_filter_results": HATE, "code": "content_filter"})}
    ),
}

ANSWERED: dict[str, tuple[Behaviour, str]] = {
    # the response, and the answer that is in it
    "string parts": (choosing(message={"content": ["A ", "cat."]}), "A cat."),
    "text in an object": (
        choosing(message={"content": [{"type": "text", "text": {"value": "A cat.", "annotations": []}}]}),
        "A cat.",
    ),
    "one part": (choosing(message={"content": {"type": "text", "text": "A cat."}}), "A cat."),
    "mixed parts": (
        choosing(message={"content": [None, {"type": "thinking", "thinking": "Hm."}, "A ", [{"text": "cat."}], 7]}),
        "A cat.",
    ),
    "half a character in a part": (choosing(message={"content": ["A cat\ud83d"]}), "A cat?"),
    "byte order mark": (
        said(200, b"\xef\xbb\xbf" + json.dumps({"choices": [{"message": {"content": "A cat."}}]}).encode()),
        "A cat.",
    ),
    "UTF-16": (said(200, json.dumps({"choices": [{"message": {"content": "A cat."}}]}).encode("utf-16")), "A cat."),
    "null before it": (
        Changed(lambda answer: answer | {"choices": [None, *answer["choices"]]}, text="A cat."),
        "A cat.",
    ),
    "a choice without a message before it": (
        Changed(lambda answer: answer | {"choices": [{"index": 0}, *answer["choices"]]}, text="A cat."),
        "A cat.",
    ),
    "a message of text": (choosing(message="A cat."), "A cat."),
    "no refusal": (choosing(message={"content": "A cat.", "refusal": {}}), "A cat."),
}
TRUNCATED = ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"]

DECLINED: dict[str, tuple[Behaviour, str]] = {
    # the response, and the model's words in it
    "its words": (choosing(message={"content": None, "refusal": "I can't."}), "I can't."),
    "a reason": (choosing(message={"content": "", "refusal": {"reason": "I can't."}}), "I can't."),
    "in a part": (choosing(message={"content": [{"type": "refusal", "refusal": ["I ", "can't."]}]}), "I can't."),
    "no words": (choosing(message={"content": None, "refusal": True}), ""),
    "other words": (choosing(message={"content": None, "refusal": {"no": 7}}), ""),
    "finish reason": (choosing(message={"content": ""}, finish_reason="refusal"), ""),
    "finish reason and words": (choosing(message={"content": "I can't."}, finish_reason="refusal"), "I can't."),
}

EMPTY: dict[str, tuple[Behaviour, str]] = {
    "only reasoning": (
        ONLY_REASONING,
        "100 of them for reasoning: raise max_output_tokens (now 100), or lower reasoning",
    ),
    "null": (choosing(message={"content": None}), "It ended by itself (finish_reason stop)"),
    "nothing": (Answer(""), "put the question in other words"),
    "blanks": (Answer(" \n\t\u200b "), "raise max_output_tokens"),
    "reasoning beside it": (
        choosing(message={"content": "", "reasoning_content": "Boats, I think."}, finish_reason="length"),
        "It used up the 100 tokens that it may take: raise max_output_tokens",
    ),
    "no finish reason": (choosing(message={"content": ""}, finish_reason=None), "It ended by itself: raise max"),
    "used up, in other words": (
        choosing(message={"content": ""}, finish_reason="MAX_TOKENS"),
        "It used up the 100 tokens that it may take: raise max_output_tokens",
    ),
    "no parts": (choosing(message={"content": []}), "without a word"),
    "a tool": (choosing(message={"content": None, "tool_calls": []}, finish_reason="tool_calls"), "tool_calls"),
}

UNREADABLE: dict[str, tuple[Behaviour, ErrorCode, str]] = {
    "cut": (Garbled(), ErrorCode.INVALID_ANSWER, "is not JSON"),
    "nothing": (Garbled(b""), ErrorCode.INVALID_ANSWER, "answer of 0 bytes is not JSON"),
    "text": (Garbled(b"Sure! Here is the answer"), ErrorCode.INVALID_ANSWER, "is not JSON"),
    "nested": (Garbled(b"[" * 100_000), ErrorCode.INVALID_ANSWER, "is not JSON"),
    "page": (
        Garbled(b"<html><head><title>Sign in to your account</title></head></html>"),
        ErrorCode.INVALID_ANSWER,
        'A web page came instead of the model\'s answer. It says: "Sign in to your account"',
    ),
    "list": (Garbled(b"[]"), ErrorCode.INVALID_ANSWER, "holds no choices"),
    "other document": (Garbled(b'{"status": "ok"}'), ErrorCode.INVALID_ANSWER, "holds no choices"),
    "no choices": (NO_CHOICES, ErrorCode.INVALID_ANSWER, "holds no choices"),
    "null choices": (Changed(lambda answer: answer | {"choices": None}), ErrorCode.INVALID_ANSWER, "holds no choices"),
    "no message": (choosing(message=...), ErrorCode.INVALID_ANSWER, "holds no message"),
    "number": (choosing(message={"content": 7}), ErrorCode.INVALID_ANSWER, "holds no text, but something else"),
    "broken off": (
        choosing(finish_reason="error", error={"code": 502, "message": "Upstream idle timeout exceeded"}),
        ErrorCode.INVALID_ANSWER,
        "Upstream idle timeout exceeded",
    ),
    "refusal in a 200": (error(200, "The server had an error"), ErrorCode.REQUEST_REJECTED, "The server had an error"),
    "LM Studio": (
        said(200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
        ErrorCode.REQUEST_REJECTED,
        "Unexpected endpoint or method. (POST /chat/completions)",
    ),
}
