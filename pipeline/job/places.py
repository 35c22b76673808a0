"""Where the image of a request lies, and where its result goes.

| request | image | result |
| --- | --- | --- |
| an upload | the input container | the result container, under the image's name |
| a trial's | the input container or that of trials | the container of trials, in `answers/<id>/<container>/` |

A request says no more than the trial's id, so it can't be aimed at another result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.instructions import Files
from pipeline.job.requests import Request
from pipeline.names import result_name
from pipeline.storage.facts import OpenedUpload, StoredResult, Upload


class Uploads(Files, Protocol):
    """Where images come from; see `pipeline.storage.uploads.Uploads`."""

    container: str

    async def open(self, name: str) -> OpenedUpload | None: ...
    async def look(self, name: str) -> Upload | None: ...
    async def listed(self, name: str) -> Upload | None: ...


class Results(Protocol):
    """Where results go; see `pipeline.storage.results.Results`."""

    async def find(self, name: str) -> StoredResult | None: ...
    async def read(self, name: str) -> bytes | None: ...
    async def require_writable(self) -> None: ...
    async def write(
        self, name: str, body: bytes, metadata: Mapping[str, str], replacing: StoredResult | None
    ) -> bool: ...
    async def note(self, name: str, metadata: Mapping[str, str], of: StoredResult) -> bool: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where one kind of request has its images and results.

    Attributes:
        folder: in which the results are, with its slash.
        instructs: whether images bring instructions: files, metadata, folders. Otherwise only the request asks.
        usual: where an image has its result apart from trials, if this is a trial's place.
    """

    uploads: Uploads
    results: Results
    folder: str = ""
    instructs: bool = True
    usual: "Place | None" = None

    def result_name(self, name: str) -> str:
        """The name of the result of the image `name`."""
        return result_name(self.folder + name)


@dataclass(frozen=True, slots=True)
class Places:
    """All places of one app.

    Attributes:
        images: that of uploads.
        trials: the trials container, for images and results.
    """

    images: Place
    trials: Place

    def of(self, request: Request) -> Place:
        """The place for `request`, which is on one of the two containers."""
        if request.trial is None:
            return self.images
        folder = f"answers/{request.trial}/{request.container}/"
        if request.container == self.trials.uploads.container:
            return replace(self.trials, folder=folder, instructs=False)
        return Place(self.images.uploads, self.trials.results, folder, usual=self.images)

    def take(self, request: Request) -> bool:
        """Whether `request` is on one of the app's containers: on that of trials only for a trial."""
        ours = {self.images.uploads.container}
        if request.trial is not None:
            ours.add(self.trials.uploads.container)
        return request.container in ours
