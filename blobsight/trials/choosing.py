"""Which images are tried: a sample by the digest of seed and name, so that it hardly changes when images are added."""

import asyncio
import hashlib
import heapq
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from blobsight.account import Account
from blobsight.estimate.measuring import Size, blob_sizes, file_sizes
from blobsight.image_states import odd_ones
from blobsight.local_files import LeftOut, LocalFile, find_files, why_unreadable
from blobsight.terminal import Problem, Trouble, Unknown, one_line, progress
from blobsight.trials.record import IMAGES, MOST_QUESTIONS, TrialImage
from pipeline.documents.recognise import is_pdf
from pipeline.errors import PermanentFailure
from pipeline.images.recognise import find_picture
from pipeline.names import EXPECTED_SUFFIX, wants_result
from pipeline.storage.listing import listed

if TYPE_CHECKING:
    from pipeline.storage.facts import ListedBlob

MOST_BYTES = 128 * 1024 * 1024
"""Of one image of this machine. The app takes less, unless its settings say otherwise."""
_RECOGNISED_BY_BYTES = 32 * 1024


@dataclass(slots=True)
class Chosen:
    """The images of a trial, by name, and what is known of them before anything is sent."""

    images: list[TrialImage] = field(default_factory=list)
    files: dict[str, LocalFile] = field(default_factory=dict)
    """The files to upload, by the names of their blobs."""
    sizes: Counter[Size | None] = field(default_factory=Counter)
    of: int = 0
    """How many there were to choose from. Only those that might be in the sample were looked at."""
    instructing: int = 0
    """Instruction files and schemas among them, which don't count."""
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def sampled[T](items: Iterable[T], names: Sequence[str], seed: int) -> list[T]:
    """All items in the order of the sample with `seed`: its first ones are the sample."""
    return [item for _, item in sorted(zip(names, items, strict=True), key=lambda pair: _rank(pair[0], seed))]


def _rank(name: str, seed: int) -> tuple[bytes, str]:
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest(), name


def choose_files(
    paths: Sequence[str], container: str, sample: int | None, seed: int, *, follow_links: bool = False
) -> Chosen:
    """Choose among the images that `paths` mean on this machine. Reads the chosen ones.

    Args:
        paths: as for `find_files`.
        container: that of trials, in which the images will be.
        sample: how many; None for all.
        seed: of the sample.
        follow_links: as for `find_files`.

    Raises:
        Trouble: there is no image, or there are too many.
    """
    chosen = Chosen()
    files: list[LocalFile] = []
    with progress("Looking for images") as bar:
        for found in find_files(paths, sys.stdin, follow_links=follow_links):
            if isinstance(found, LeftOut):
                if found.problem:
                    chosen.left_out.append(found)
            elif wants_result(found.name):
                files.append(found)
                bar.advance()
            elif not found.name.endswith(EXPECTED_SUFFIX):
                chosen.instructing += 1
    return take_files(chosen, sampled(files, [file.name for file in files], seed), container, sample)


def take_files(chosen: Chosen, files: Sequence[LocalFile], container: str, sample: int | None) -> Chosen:
    """Take the first `sample` of the files that are images, all with None, and add what is known of them to `chosen`.

    Raises:
        Trouble: there is none, or there are too many.
    """
    chosen.of = len(files)
    require_few(min(sample or len(files), len(files)))
    taken: list[tuple[LocalFile, str]] = []
    with progress("Reading images", min(sample or len(files), len(files))) as bar:
        for file in files:
            if sample is not None and len(taken) >= sample:
                break
            found = _blob_of(file)
            if isinstance(found, LeftOut):
                chosen.left_out.append(found)
            else:
                taken.append((file, found))
                bar.advance()
    chosen.of -= sum(not left.problem for left in chosen.left_out)
    if not taken:
        raise Trouble(f"There is nothing to try: what you named holds no images{_why_none(chosen)}.")
    chosen.images = sorted(
        (TrialImage(name=file.name, container=container, blob=blob) for file, blob in taken), key=lambda one: one.name
    )
    chosen.files = {blob: file for file, blob in taken}
    for _, size in file_sizes(file for file, _ in taken):
        chosen.sizes[None if isinstance(size, OSError) else size] += 1
    return chosen


def require_few(images: int) -> None:
    """Check that a trial may have so many images, before each of them is read.

    Raises:
        Trouble: it may not, with one variant either.
    """
    if images > MOST_QUESTIONS:
        raise Trouble(f"A trial may have {MOST_QUESTIONS:,} questions, and these are more images: give --sample.")


def _why_none(chosen: Chosen) -> str:
    """The first reason why nothing was taken, in brackets, and how many more there are; empty without any."""
    reasons = [f"{left.path}: {left.reason}" for left in chosen.left_out]
    reasons += [f"{problem.name}: {problem.why.reason}" for problem in chosen.problems]
    more = f"; and {len(reasons) - 1:,} more" if len(reasons) > 1 else ""
    return f" ({one_line(reasons[0])}{more})" if reasons else ""


def _blob_of(file: LocalFile) -> str | LeftOut:
    """The name of an image's blob, which follows from its content; or why it is left out."""
    if file.size > MOST_BYTES:
        return LeftOut(str(file.path), f"it has {file.size:,} bytes, and {MOST_BYTES:,} can be tried")
    try:
        with file.path.open("rb") as opened:
            start = opened.read(_RECOGNISED_BY_BYTES)
            if not start:
                return LeftOut(str(file.path), "it is empty: save it again")
            if not is_pdf(start):
                find_picture(start)
            opened.seek(0)
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return LeftOut(str(file.path), why_unreadable(file.path, error))
    except PermanentFailure as not_an_image:
        what = (not_an_image.details or {}).get("seems_to_be", not_an_image.message)
        return LeftOut(str(file.path), f"not an image: it seems to be {what}", problem=False)
    return blob_named(digest, file.name)


def blob_named(sha256: str, name: str) -> str:
    """The blob of an image of this machine."""
    suffix = PurePath(name).suffix.lower()
    plain = suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 11
    return f"{IMAGES}{sha256}{suffix if plain else ''}"


async def choose_blobs(account: Account, prefix: str, sample: int | None, seed: int) -> Chosen:
    """Choose among the images in the input container whose names begin with `prefix`.

    Raises:
        Trouble: there is none, or there are too many.
        AzureError: as the SDK gives it.
    """
    chosen = Chosen()
    best: list[ListedBlob] = []
    with progress("Listing images") as bar:
        async for page in listed(account.images, metadata=False, prefix=prefix):
            chosen.problems += odd_ones(page)
            images = [blob for blob in page.blobs if wants_result(blob.name)]
            chosen.of += len(images)
            best += images
            if sample is not None:
                best = heapq.nsmallest(sample, best, key=lambda blob: _rank(blob.name, seed))
            require_few(len(best))
            bar.advance(len(page.blobs))
    if not best:
        raise Trouble(
            f"There is nothing to try: no image in '{account.place.images}' has a name that begins with '{prefix}'."
        )
    return await take_blobs(chosen, account, best)


async def take_blobs(chosen: Chosen, account: Account, blobs: Sequence["ListedBlob"]) -> Chosen:
    """Take all of `blobs`, of the input container, and add what is known of them to `chosen`.

    Raises:
        AzureError: as the SDK gives it.
    """
    chosen.images = [
        TrialImage(name=blob.name, container=account.place.images, blob=blob.name, etag=blob.etag)
        for blob in sorted(blobs, key=lambda blob: blob.name)
    ]
    chosen.sizes, unread = await blob_sizes(account.images, blobs)
    chosen.problems += unread
    return chosen


async def read_file(file: LocalFile, blob: str) -> bytes | Unknown:
    """The bytes of a file that was chosen; or why it can't be sent."""
    try:
        data = await asyncio.to_thread(file.path.read_bytes)
    except OSError as error:
        return Unknown(why_unreadable(file.path, error))
    if blob_named(hashlib.sha256(data).hexdigest(), file.name) != blob:
        return Unknown("it was changed while this ran: run the same command again")
    return data
