"""The body of a chat completion request, made while it is sent. Pure."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

import pybase64

from pipeline.documents.facts import Pages, Picture, sent_pages
from pipeline.model.question import SENT, Question

SLICE_BYTES = 48 * 1024
"""Of the image, encoded at a time: 64 KiB of base64, four TLS records. Half of it costs clearly more processor
time, twice of it saves none."""
TURN_BYTES = 16 * SLICE_BYTES
"""Of the image, after which others on the event loop get their turn though the network would take more."""

LINE_URL = "/v1/chat/completions"
"""In each line of a batch's input file. Of the batch itself, Azure's guide says `/chat/completions`.
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch"""

_END = b"]}]}"
"""The bytes after the last part: the ends of its message's content, of that, of the messages and of the request."""
_AFTER_IMAGE = b'"}}'


@dataclass(frozen=True, slots=True)
class RequestBody:
    """JSON with images in it, as slices of bytes. Only the images' own bytes are held, not their base64.

    It can be iterated again, for another try. `len` is known before: the Content-Length.
    """

    head: bytes
    """All before the first image."""
    images: tuple[tuple[bytes, bytes], ...]
    """Each image's bytes, and what stands between it and the next one."""

    def __len__(self) -> int:
        return len(self.head) + sum((len(image) + 2) // 3 * 4 + len(after) for image, after in self.images)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        yield self.head
        for data, after in self.images:
            with memoryview(data) as image:
                for start in range(0, len(image), SLICE_BYTES):
                    if start and start % TURN_BYTES == 0:
                        await asyncio.sleep(0)
                    yield pybase64.b64encode(image[start : start + SLICE_BYTES])
            yield after


def request_body(question: Question, picture: Picture) -> RequestBody:
    """The JSON of a chat completion request."""
    request: dict[str, Any] = {
        "model": question.deployment,
        # GPT-5 models reject max_tokens and any temperature but their own.
        "max_completion_tokens": question.max_output_tokens,
    }
    if question.reasoning_effort is not None:
        request["reasoning_effort"] = question.reasoning_effort
    if question.service_tier in SENT:
        request["service_tier"] = question.service_tier
    if question.schema is not None:
        request["response_format"] = question.schema.response_format
    request["messages"] = [
        {"role": "system", "content": question.system_prompt},
        {"role": "user", "content": [{"type": "text", "text": question.instructions}]},
    ]
    # Where images belong is told by their place alone: people may write anything anywhere else.
    beginning = json.dumps(request).encode().removesuffix(_END)
    heads = _heads(question, picture)
    afters = [*(_AFTER_IMAGE + head for head in heads[1:]), _AFTER_IMAGE + _END]
    images = (page.image.data for page in sent_pages(picture))
    return RequestBody(beginning + heads[0], tuple(zip(images, afters, strict=True)))


def batch_line(name: str, question: Question, picture: Picture) -> RequestBody:
    """The same request as a line of a batch's input file, with the `name` that its answer comes back under."""
    body = request_body(question, picture)
    frame = json.dumps({"custom_id": name, "method": "POST", "url": LINE_URL}).encode().removesuffix(b"}")
    *images, (last, after) = body.images
    return replace(body, head=frame + b', "body": ' + body.head, images=(*images, (last, after + b"}\n")))


def _heads(question: Question, picture: Picture) -> list[bytes]:
    """For each image what stands before its base64, from the end of the part before it. Pages are announced."""
    heads = []
    for page in sent_pages(picture):
        parts: list[dict[str, Any]] = []
        if isinstance(picture, Pages):
            parts.append({"type": "text", "text": f"{picture.noun.capitalize()} {page.number} of {picture.count}:"})
        url = {"detail": question.detail, "url": f"data:{page.image.media_type};base64,"}
        parts.append({"type": "image_url", "image_url": url})
        written = json.dumps(parts).encode().removeprefix(b"[").removesuffix(_AFTER_IMAGE + b"]")
        heads.append(b", " + written)
    return heads
