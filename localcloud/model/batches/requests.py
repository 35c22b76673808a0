"""What a request for a batch or a file says, checked. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from localcloud.model.batches import refusals
from localcloud.model.errors import RefusedError

MOST_KEYS = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512

EXPIRY_SECONDS = range(1_209_600, 2_592_000 + 1)
"""14 to 30 days."""


class Listed(Protocol):
    @property
    def id(self) -> str: ...


def check_metadata(metadata: object) -> dict[str, str] | None:
    """The metadata of a batch. Raises RefusedError."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise RefusedError(
            refusals.wrong_metadata("Invalid type for 'metadata': expected an object.", code="invalid_type")
        )
    if len(metadata) > MOST_KEYS:
        raise RefusedError(
            refusals.wrong_metadata(
                f"Invalid 'metadata': too many properties. Expected an object with at most {MOST_KEYS} properties, but "
                f"got an object with {len(metadata)} properties instead.",
                code="object_above_max_properties",
            )
        )
    for key, value in metadata.items():
        where = f"metadata.{key}"
        if not isinstance(value, str):
            problem = f"Invalid type for '{where}': expected a string."
            raise RefusedError(refusals.wrong_metadata(problem, "invalid_type", where))
        for text, most in ((key, LONGEST_KEY), (value, LONGEST_VALUE)):
            if len(text) > most:
                problem = f"Invalid '{where}': string too long. Expected a string with maximum length {most}."
                raise RefusedError(refusals.wrong_metadata(problem, "string_above_max_length", where))
    return metadata


def output_expiry(request: Mapping[str, Any]) -> int | None:
    """Seconds that the files of a batch are kept; None is for ever.

    The anchor is taken in the object, where the SDK sends it, and beside it, where the guide has it. Raises
    RefusedError.
    """
    given = request.get("output_expires_after")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise RefusedError(refusals.wrong_expiry())
    return expiry(given.get("anchor", request.get("anchor")), given.get("seconds"))


def expiry(anchor: object, seconds: object) -> int | None:
    """Seconds that a file is kept, None where nothing was said. Raises RefusedError."""
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at" or not str(seconds).isdecimal() or int(str(seconds)) not in EXPIRY_SECONDS:
        raise RefusedError(refusals.wrong_expiry())
    return int(str(seconds))


def page[T: Listed](items: Sequence[T], query: Mapping[str, str], *, most: int, default: int) -> tuple[list[T], bool]:
    """The items that a listing's `after` and `limit` ask for, and whether there are more. Raises RefusedError."""
    limit = query.get("limit", str(default))
    if not limit.isdecimal() or not 1 <= int(limit) <= most:
        raise RefusedError(refusals.bad_query("limit", limit))
    start = 0
    if after := query.get("after"):
        places = [index for index, item in enumerate(items) if item.id == after]
        if not places:
            raise RefusedError(refusals.bad_query("after", after))
        start = places[0] + 1
    end = start + int(limit)
    return list(items[start:end]), len(items) > end
