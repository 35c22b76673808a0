"""The body of a chat completion request, made while it is sent. Pure."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pybase64

from pipeline.images import PreparedImage
from pipeline.model.question import Question

SLICE_BYTES = 48 * 1024
"""Of the image, encoded at a time: 64 KiB of base64, four TLS records. Half of it costs clearly more processor
time, twice of it saves none."""
TURN_BYTES = 16 * SLICE_BYTES
"""Of the image, after which others on the event loop get their turn though the network would take more."""

_END = b'"}}]}]}'
"""The bytes after the image: the ends of its URL, its part, the last message and the request."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    """JSON with an image in it, as slices of bytes. Only the image's own bytes are held, not their base64.

    It can be iterated again, for another try. `len` is known before: the Content-Length.
    """

    head: bytes
    image: bytes

    @classmethod
    def of(cls, request: dict[str, Any], image: bytes) -> "RequestBody":
        """The body of `request` with `image` put in.

        Args:
            request: its last string is the image's data URL, as far as `;base64,`, in the last message's last part.
            image: the file's bytes.
        """
        # Where the image belongs is told by its place alone: people may write anything anywhere else.
        whole = json.dumps(request).encode()
        if not whole.endswith(b";base64," + _END):
            raise ValueError("the request does not end in a data URL")
        return cls(whole.removesuffix(_END), image)

    def __len__(self) -> int:
        return len(self.head) + (len(self.image) + 2) // 3 * 4 + len(_END)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.head
        with memoryview(self.image) as image:
            for start in range(0, len(image), SLICE_BYTES):
                if start and start % TURN_BYTES == 0:
                    await asyncio.sleep(0)
                yield pybase64.b64encode(image[start : start + SLICE_BYTES])
        yield _END


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
