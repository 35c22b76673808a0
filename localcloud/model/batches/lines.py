"""An input file, checked line by line as the service validates it. Pure, and in the memory of one line."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.model.batches.facts import IMAGE_TOKENS, SPELLINGS, BatchError
from localcloud.model.deployments import Deployment
from localcloud.model.tokens import text_tokens

BOM = b"\xef\xbb\xbf"
MOST_ERRORS = 100


@dataclass(frozen=True, slots=True)
class Line:
    """Where a line is in its file, in bytes."""

    start: int
    length: int
    custom_id: str


@dataclass(slots=True)
class Inspected:
    """What was found in a file. With errors, `lines` and `tokens` are not complete."""

    lines: list[Line] = field(default_factory=list)
    tokens: int = 0
    deployment: str = ""
    errors: list[BatchError] = field(default_factory=list)


def inspect(file: Iterable[bytes], deployments: Mapping[str, Deployment], most_lines: int) -> Inspected:
    """Check the lines of a file whose batch is for chat completions."""
    inspected, seen = Inspected(), set[str]()
    url = ""
    for number, start, raw in _numbered(file):
        if number == 1 and raw.startswith(BOM):
            inspected.errors.append(BatchError("invalid_request", _NO_DEPLOYMENT))
            return inspected
        if number > most_lines:
            message = f"The number of requests in the input file exceeds the maximum allowed value of {most_lines}."
            inspected.errors = [BatchError("too_many_tasks", message)]
            return inspected
        try:
            line = _parse(raw)
            url = url or line["url"]
            inspected.deployment = inspected.deployment or line["body"]["model"]
            _check(line, url, inspected.deployment, deployments)
            _require_new(line["custom_id"], seen)
        except _Wrong as wrong:
            inspected.errors.append(BatchError(wrong.code, wrong.message, number))
            if len(inspected.errors) >= MOST_ERRORS:
                return inspected
            continue
        seen.add(line["custom_id"])
        inspected.lines.append(Line(start, len(raw), line["custom_id"]))
        inspected.tokens += _tokens(line["body"])
    if not inspected.lines and not inspected.errors:
        message = "The input file is empty. Please ensure that the batch contains at least one request."
        inspected.errors.append(BatchError("empty_file", message))
    return inspected


_NO_DEPLOYMENT = (
    "Validation failed: A valid model deployment name couldn't be extracted from the input file. Please ensure that "
    "each row in the input file has a valid deployment name specified in the 'model' field, and that the deployment "
    "name is consistent across all rows."
)


class _Wrong(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _numbered(file: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Number, start and bytes of each line that is not blank."""
    start = number = 0
    for raw in file:
        if raw.strip():
            number += 1
            yield number, start, raw
        start += len(raw)


def _parse(raw: bytes) -> dict[str, Any]:
    """A line of the right shape."""
    try:
        line = json.loads(raw)
    except ValueError:
        raise _Wrong("invalid_json_line", "This line is not parseable as valid JSON.") from None
    if not isinstance(line, dict):
        raise _Wrong("invalid_json_line", "This line is not a JSON object.")
    for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if not isinstance(line.get(name), kind) or not line[name]:
            raise _Wrong("invalid_request", f"The property '{name}' of this line is missing or invalid.")
    if line["method"] != "POST":
        raise _Wrong("invalid_request", "The method of this line is not POST.")
    if not isinstance(line["body"].get("model"), str):
        raise _Wrong("model_not_found", _NO_DEPLOYMENT)
    return line


def _check(line: Mapping[str, Any], url: str, model: str, deployments: Mapping[str, Deployment]) -> None:
    if line["url"] != url or url not in SPELLINGS:
        raise _Wrong("url_mismatch", "The URL of this request does not match the other rows, or the batch's endpoint.")
    name = line["body"]["model"]
    if name != model:
        raise _Wrong("model_mismatch", "The deployment of this request does not match the rest of the file.")
    deployment = deployments.get(name)
    if deployment is None:
        raise _Wrong("model_not_found", f"The deployment '{name}' was not found.")
    if not deployment.is_for_batches:
        raise _Wrong("invalid_request", f"The deployment '{name}' has the SKU {deployment.sku}, not globalbatch.")


def _require_new(custom_id: str, seen: Collection[str]) -> None:
    if custom_id in seen:
        raise _Wrong("duplicate_custom_id", "The custom ID of this request is that of another request.")


def _tokens(body: Mapping[str, Any]) -> int:
    """An estimate that decodes no image."""
    tokens = 0
    for message in body.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            tokens += text_tokens(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                tokens += IMAGE_TOKENS if part.get("type") == "image_url" else text_tokens(str(part.get("text", "")))
    return tokens
