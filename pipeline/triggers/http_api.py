"""The 2024 tutorial's scenario: an image in the body of a POST, the answer in its response."""

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from pipeline.errors import ErrorCode, OperatorFailure, RetryableFailure
from pipeline.triggers.invocation import uncancelled

if TYPE_CHECKING:
    from pipeline.job.analysis import Analyzer

_STATUS = {
    ErrorCode.EMPTY_BLOB: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_INSTRUCTIONS: HTTPStatus.BAD_REQUEST,
    ErrorCode.IMAGE_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.UNSUPPORTED_IMAGE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}
"""Any other failure of the image or the question is 422: the request was understood and can't be answered."""

_RETRY_AFTER_SECONDS = 10
"""Seconds in Retry-After when the service named no time itself."""


async def process_image(analyzer: "Analyzer", request: func.HttpRequest) -> func.HttpResponse:
    """Answer `POST /api/process_image?instructions=…`.

    The answer's text, or with `Accept: application/json` the whole result. Failures have a status of their own
    and a message in the same form: 400, 413, 415 and 422 for what the client sent, 503 with Retry-After for
    what may work later, 502 for what an operator has to fix.
    """
    response = await _answer(analyzer, request)
    # A browser must not take an answer, which repeats what an image says, for a page.
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _answer(analyzer: "Analyzer", request: func.HttpRequest) -> func.HttpResponse:
    as_json = "application/json" in request.headers.get("accept", "")
    try:
        with uncancelled("process_image"):
            result = await analyzer.analyze_bytes(
                request.get_body(), request.headers.get("content-type"), request.params.get("instructions")
            )
    except OperatorFailure as failure:
        return func.HttpResponse(failure.message, status_code=HTTPStatus.BAD_GATEWAY)
    except RetryableFailure as failure:
        seconds = failure.retry_after or _RETRY_AFTER_SECONDS
        return func.HttpResponse(
            failure.message,
            status_code=HTTPStatus.SERVICE_UNAVAILABLE,
            headers={"Retry-After": str(max(1, round(seconds)))},
        )
    status = _STATUS.get(result.error.code, HTTPStatus.UNPROCESSABLE_ENTITY) if result.error else HTTPStatus.OK
    if as_json:
        return func.HttpResponse(result.to_json(), status_code=status, mimetype="application/json")
    text = result.error.message if result.error else result.answer.text if result.answer else ""
    return func.HttpResponse(text, status_code=status, mimetype="text/plain")
