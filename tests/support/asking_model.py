"""Asking the local model as the app does, through the SDK, with a brain that takes no time."""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import httpx2
import openai
from PIL import Image

from localcloud.certificates import Certificates
from localcloud.identity import TokenRefused
from localcloud.model import LocalModel, Question

TOKEN = "a-good-token"


def verify(token: str) -> dict[str, str]:
    if token != TOKEN:
        raise TokenRefused("not this one")
    return {}


class Echo:
    """A brain that takes no time."""

    def answer(self, question: Question) -> str:
        return f"You asked: {question.instructions}"


@asynccontextmanager
async def sdk(model: LocalModel, certificates: Certificates, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    trusting = httpx2.AsyncClient(verify=certificates.client_context())
    async with openai.AsyncOpenAI(
        base_url=f"{model.endpoint}/openai/v1/",
        api_key=TOKEN,
        http_client=trusting,
        max_retries=0,
        **options,
    ) as made:
        yield made


def encoded(kind: str = "PNG", size: tuple[int, int] = (8, 6), colour: str = "red", **options: Any) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind, **options)
    return buffer.getvalue()


def image_part(data: bytes, mime: str = "image/png", **options: str) -> dict[str, Any]:
    url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url, **options}}


def body(*parts: Mapping[str, Any], text: str = "What is it?", **options: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}, *parts]
    return {
        "model": "vision",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}],
        **options,
    }
