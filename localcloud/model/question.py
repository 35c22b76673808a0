"""A chat completion request, checked as the service checks one for a GPT-5 model, and what is left of it after."""

import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any

import pybase64
from PIL import Image, UnidentifiedImageError

from localcloud.model.deployments import Deployed
from localcloud.model.errors import Json, RefusedError, deployment_not_found, invalid_request
from localcloud.model.tokens import image_tokens, text_tokens

MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_BODY_BYTES = 50 * 1024 * 1024
FORMATS = ("png", "jpeg", "gif", "webp")
ROLES = ("system", "developer", "user", "assistant")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")

# Reasoning models do without these ("Not supported" in the service's guide to them).
UNSUPPORTED = (
    "max_tokens", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias",
)  # fmt: skip
KNOWN = frozenset({
    "model", "messages", "max_completion_tokens", "temperature", "n", "stream", "response_format",
    "reasoning_effort", "verbosity", "metadata", "store", "user", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "service_tier", "seed", "modalities",
})  # fmt: skip

MAX_SEEN = 4096
_seen: dict[str, tuple[str, int, int]] = {}
"""Format, width and height of images that were decoded before, by SHA-256: load tests send the same few for ever."""

DATA_URL = re.compile(r"data:([^;,]*);base64,")


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it arrived, found to be one of the four formats and decodable."""

    data: bytes = field(repr=False)
    sha256: str
    declared_type: str
    """The type that the data URL claims. The service looks at the bytes, so a wrong claim does no harm."""
    format: str
    """png, jpeg, gif or webp, by the bytes."""
    width: int
    height: int
    detail: str
    seen_side: int
    """Pixels on the longer side at which the model sees it at most."""


@dataclass(frozen=True, slots=True)
class Question:
    """The content of one request, as a brain gets it."""

    deployment: str
    system: str
    instructions: str
    """The user's text parts, joined by line ends."""
    pictures: tuple[Picture, ...]
    schema: Mapping[str, Any] | None
    """The JSON Schema that the answer must meet, if one was asked for."""
    response_format: Mapping[str, Any] | None
    options: Mapping[str, Any]
    """Everything else in the body, as sent: max_completion_tokens, reasoning_effort, …"""
    prompt_tokens: int
    model: str
    """The name of the model that is asked."""

    @property
    def max_completion_tokens(self) -> int | None:
        return self.options.get("max_completion_tokens")


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The request's JSON object. Raises RefusedError."""
    try:
        request = json.loads(body)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise _refusal(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
            "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
        )
    return request


def check(request: Mapping[str, Any], deployments: Collection[str], deployed: Deployed) -> Question:
    """The question in a parsed request body. Raises RefusedError with the service's own words where it would refuse.

    Decodes the images: run it in a thread.
    """
    deployment = request.get("model")
    if not isinstance(deployment, str) or not deployment:
        raise _refusal("you must provide a model parameter")
    if deployment not in deployments:
        raise RefusedError(deployment_not_found())
    _check_options(request)
    system, user, pictures = _conversation(request.get("messages"), deployed)
    response_format = request.get("response_format")
    schema = _schema(response_format, " ".join(system + user))
    return Question(
        deployment=deployment,
        system="\n".join(system),
        instructions="\n".join(user),
        pictures=tuple(pictures),
        schema=schema,
        response_format=response_format,
        options={key: value for key, value in request.items() if key not in ("model", "messages", "response_format")},
        prompt_tokens=sum(text_tokens(text) for text in system + user)
        + (text_tokens(json.dumps(schema)) if schema else 0)
        + sum(image_tokens(picture.width, picture.height, picture.detail) for picture in pictures),
        model=deployed.name,
    )


def _conversation(messages: object, deployed: Deployed) -> tuple[list[str], list[str], list[Picture]]:
    """The system's texts, the user's texts, and the pictures."""
    if not isinstance(messages, list):
        raise _refusal("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    if not messages:
        raise _refusal(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    system: list[str] = []
    user: list[str] = []
    pictures: list[Picture] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise _invalid_value(f"{where}.role", role, ROLES)
        texts = user if role == "user" else system
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
            continue
        if not isinstance(content, list):
            raise _refusal(
                f"Invalid type for '{where}.content': expected one of a string or array of objects.",
                param=f"{where}.content",
                code="invalid_type",
            )
        for position, part in enumerate(content):
            at = f"{where}.content[{position}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind == "image_url" and role == "user":
                pictures.append(_picture(part.get("image_url"), at, deployed))
            else:
                raise _invalid_value(f"{at}.type", kind, ("text", "image_url"))
    return system, user, pictures


def _refusal(message: str, *, param: str | None = None, code: str | None = None) -> RefusedError:
    return RefusedError(invalid_request(message, param=param, code=code))


def _invalid_value(where: str, value: object, supported: Collection[str]) -> RefusedError:
    names = ", ".join(f"'{name}'" for name in supported)
    return _refusal(f"Invalid value: '{value}'. Supported values are: {names}.", param=where, code="invalid_value")


def _check_options(request: Mapping[str, Any]) -> None:
    for name in UNSUPPORTED:
        if request.get(name) is not None:
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            raise _refusal(
                f"Unsupported parameter: '{name}' is not supported with this model.{hint}",
                param=name,
                code="unsupported_parameter",
            )
    for name in request:
        if name not in KNOWN and name not in UNSUPPORTED:
            raise _refusal(f"Unrecognized request argument supplied: {name}")
    for name, only in (("temperature", 1), ("n", 1), ("stream", False)):
        if request.get(name, only) not in (only, None):
            raise _refusal(
                f"Unsupported value: '{name}' does not support {json.dumps(request[name])} with this model. "
                f"Only the default ({json.dumps(only)}) value is supported.",
                param=name,
                code="unsupported_value",
            )
    most = request.get("max_completion_tokens")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise _refusal(
            f"Invalid 'max_completion_tokens': expected an integer of at least 1, but got {json.dumps(most)} instead.",
            param="max_completion_tokens",
            code="integer_below_min_value",
        )
    effort = request.get("reasoning_effort")
    if effort is not None and effort not in EFFORTS:
        raise _invalid_value("reasoning_effort", effort, EFFORTS)


def _picture(image_url: object, where: str, deployed: Deployed) -> Picture:
    url = image_url.get("url") if isinstance(image_url, dict) else None
    head = DATA_URL.match(url) if isinstance(url, str) else None
    if not isinstance(image_url, dict) or not isinstance(url, str) or not head:
        # The service fetches http(s) URLs; the local cloud is closed to the Internet and so is its model.
        raise _refusal(
            "Invalid image URL. The URL must be a valid HTTP or HTTPS URL, or a data URL with base64 encoding.",
            param=f"{where}.image_url.url",
            code="invalid_image_url",
        )
    detail = image_url.get("detail", "auto")
    if detail not in deployed.details:
        raise _invalid_value(f"{where}.image_url.detail", detail, deployed.details)
    declared = head[1].lower()
    if declared.removeprefix("image/") not in (*FORMATS, "jpg"):
        raise _unsupported_image()
    try:
        data = pybase64.b64decode(url[head.end() :], validate=True)
    except binascii.Error:
        data = b""
    if not data:
        raise _refusal("Invalid base64 image_url.", param=where, code="invalid_base64")
    if len(data) > MAX_IMAGE_BYTES:
        raise _refusal(
            "You uploaded an unsupported image. Please make sure your image is below 20 MB in size and is of one the "
            f"following formats: {list(FORMATS)}.",
            code="sanitizer_server_error",
        )
    digest = sha256(data).hexdigest()
    looked = _seen.get(digest)
    if looked is None:
        looked = _look(data)
        if len(_seen) >= MAX_SEEN:
            _seen.clear()
        _seen[digest] = looked
    kind, width, height = looked
    return Picture(data, digest, declared, kind, width, height, detail, deployed.seen_side(detail))


def _unsupported_image() -> RefusedError:
    return _refusal(
        "You uploaded an unsupported image. Please make sure your image has of one the following formats: "
        f"{list(FORMATS)}.",
        code="invalid_image_format",
    )


def _look(data: bytes) -> tuple[str, int, int]:
    """Format, width and height; raises RefusedError for what the service cannot open: by content, not by claim."""
    try:
        with Image.open(BytesIO(data), formats=[name.upper() for name in FORMATS]) as image:
            if image.format == "GIF" and getattr(image, "n_frames", 1) > 1:
                raise _unsupported_image()
            size = image.size
            kind = (image.format or "").lower()
            # A JPEG read at an eighth of its size shows a missing end as well, at a tenth of the time.
            image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _unsupported_image() from None
    except (OSError, ValueError, SyntaxError, EOFError):  # Pillow's words for a broken file differ by format
        raise _refusal("Invalid image data.", code="invalid_image") from None
    return kind, *size


def _schema(response_format: object, texts: str) -> Mapping[str, Any] | None:
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if not isinstance(response_format, dict) or kind not in ("text", "json_object", "json_schema"):
        raise _invalid_value("response_format.type", kind, ("text", "json_object", "json_schema"))
    if kind == "text":
        return None
    if kind == "json_object":
        if "json" not in texts.lower():
            raise _refusal(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                param="messages",
            )
        return {"type": "object"}
    wanted = response_format.get("json_schema")
    name = wanted.get("name") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise _refusal(
            f"Invalid 'response_format.json_schema.name': {json.dumps(name)}. Expected a string that matches the "
            "pattern '^[a-zA-Z0-9_-]+$' of at most 64 characters.",
            param="response_format.json_schema.name",
            code="invalid_value",
        )
    schema = wanted.get("schema", {"type": "object"})
    if not isinstance(schema, dict):
        raise _invalid_schema(name, (), "schema must be a JSON Schema object")
    if wanted.get("strict"):
        if schema.get("type") != "object":
            raise _invalid_schema(
                name, (), f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
            )
        _check_strict(name, schema, ())
    return schema


def _invalid_schema(name: str, context: tuple[str, ...], problem: str) -> RefusedError:
    return _refusal(
        f"Invalid schema for response_format '{name}': In context={context}, {problem}",
        param="response_format",
        code=None,
    )


def _check_strict_object(name: str, schema: Json, properties: Json, context: tuple[str, ...]) -> None:
    if schema.get("additionalProperties") is not False:
        raise _invalid_schema(name, context, "'additionalProperties' is required to be supplied and to be false.")
    missing = [key for key in properties if key not in schema.get("required", [])]
    if missing:
        raise _invalid_schema(
            name,
            context,
            "'required' is required to be supplied and to be an array including every key in properties. "
            f"Missing '{missing[0]}'.",
        )


def _check_strict(name: str, schema: Any, context: tuple[str, ...]) -> None:
    """Strict mode's two rules that schemas written for other readers break: every property is required, no others."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            _check_strict(name, item, (*context, str(index)))
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    if isinstance(properties, dict):
        _check_strict_object(name, schema, properties, context)
        for key, value in properties.items():
            _check_strict(name, value, (*context, "properties", key))
    for key in ("items", "anyOf"):
        _check_strict(name, schema.get(key), (*context, key))
    for key in ("$defs", "definitions"):
        for definition, value in (schema.get(key) or {}).items():
            _check_strict(name, value, (*context, key, definition))
