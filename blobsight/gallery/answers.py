"""Answers of the images that are shown: read when they are needed, kept within a bound."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from blobsight.account import affects_all
from blobsight.gallery.columns import Shown
from blobsight.reading import side_by_side
from blobsight.stored_results import read_result
from blobsight.terminal import Unknown
from pipeline.names import result_name

BEGINNING = 280
"""Characters of an answer that the overview shows."""
SEARCHED = 4000
"""Characters of an answer that are searched."""
KEPT_CHARACTERS = 32_000_000
"""Of all answers together that are kept: of 100,000 answers, 320 each."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of an answer, or of the message of an error."""

    result_etag: str
    text: str
    searched: str
    """The answer in lower case, for the search."""

    @property
    def characters(self) -> int:
        return len(self.text) + len(self.searched)


class Answers:
    """Reads results. Those read last are kept."""

    def __init__(self, results: ContainerClient) -> None:
        self._results = results
        self._kept: OrderedDict[str, Beginning] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._kept)

    def searched(self, name: str) -> str | None:
        """What is searched of the answer to the image `name`, if it was read."""
        found = self._kept.get(name)
        return found.searched if found else None

    async def beginnings(
        self, images: Iterable[Shown], advance: Callable[[], None] = lambda: None
    ) -> Mapping[str, str]:
        """The beginnings of the results of `images`, by name; of what can't be read, the reason.

        Raises:
            AzureError: none can be read.
        """
        found: dict[str, str] = {}
        missing: list[Shown] = []
        for image in images:
            known = self._kept.get(image.name)
            if known is not None and known.result_etag == image.result_etag:
                found[image.name] = known.text
                self._kept.move_to_end(image.name)
            elif image.result_etag:
                missing.append(image)

        def take(image: Shown, beginning: Beginning | Unknown | None) -> None:
            advance()
            if isinstance(beginning, Unknown):
                found[image.name] = f"The result can't be shown: {beginning.reason}."
            elif beginning is not None:
                found[image.name] = beginning.text
                self._keep(image.name, beginning)

        await side_by_side(missing, self._read, take)
        return found

    async def _read(self, image: Shown) -> Beginning | None:
        try:
            result = await read_result(self._results, result_name(image.name))
        except ResourceNotFoundError as error:
            if affects_all(error):
                raise
            return None
        text = spoken(result)
        return Beginning(image.result_etag or "", text[:BEGINNING], text[:SEARCHED].casefold())

    def _keep(self, name: str, beginning: Beginning) -> None:
        before = self._kept.pop(name, None)
        self._kept[name] = beginning
        self._characters += beginning.characters - (before.characters if before else 0)
        while self._characters > KEPT_CHARACTERS:
            _, dropped = self._kept.popitem(last=False)
            self._characters -= dropped.characters


def spoken(result: Mapping[str, Any]) -> str:
    """What a result says, as a line: the message of its error, its data as "name: value", or its text."""
    if result["status"] == "failed":
        return str(result["error"]["message"])
    data = result["answer"].get("data")
    if isinstance(data, Mapping):
        return " · ".join(f"{name}: {_value(value)}" for name, value in data.items() if value is not None)
    return str(result["answer"]["text"])


def _value(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(_value(one) for one in value.values() if one is not None)
        case Sequence() if not isinstance(value, str):
            return ", ".join(_value(one) for one in value)
        case _:
            return str(value)
