"""From an upload's bytes to the images that are sent: unpack, inspect, convert, or draw the pages of a document."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from pipeline.documents.choice import NoSuchPages, PageChoice
from pipeline.documents.facts import MOST_SENT_BYTES, Pages, SentPage, process_bytes
from pipeline.documents.recognise import is_pdf
from pipeline.documents.refusals import no_such_pages, too_many_pages
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import (
    ImageFacts,
    ImageLimits,
    Inspection,
    PreparedImage,
    Unclear,
    as_stored,
    convert,
    inspect,
    inspect_by_decoder,
    inspect_page,
    number_of_frames,
)
from pipeline.images.facts import SERVICE_MAX_BYTES
from pipeline.images.resolution import ORIGINAL, Resolution, of_detail
from pipeline.job.memory import Budget, Content
from pipeline.model.question import Question
from pipeline.settings import Ceilings
from pipeline.unpacking import Broken, TooLarge, is_packed, unpacked

CONVERSIONS = 2
"""Memory for all conversions together, by estimate, in `settings.image_memory_bytes`: half of an instance where that
setting is a quarter of it."""

ALL, FIRST = PageChoice.parse("all"), PageChoice.parse("first")
_ANIMATED = frozenset({"gif", "webp", "png"})
_SEQUENCES = frozenset({"heic", "avif"})
"""Formats that may hold several pictures without saying so where headers are read."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The outcome: a picture to send, or why there is none; and what is known of the file by then."""

    facts: ImageFacts | None = None
    picture: PreparedImage | Pages | None = None
    failure: PermanentFailure | None = None


class Preparer:
    """Prepares uploads. One per process.

    Args:
        memory: what the bytes of uploads may hold in addition to those that come with opening one.
    """

    def __init__(self, settings: Ceilings, memory: Budget) -> None:
        self._memory = memory
        self._most_pages = settings.max_pages
        # A conversion keeps a processor busy and holds decoded pixels: more at a time would only cost memory.
        self._conversions = asyncio.Semaphore(os.process_cpu_count() or 1)
        pixels = CONVERSIONS * settings.image_memory_bytes
        self._pixels = Budget(pixels)
        self._pages = Budget(settings.image_memory_bytes)
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels, max_conversion_bytes=pixels)

    async def prepare(
        self, content: Content, question: Question, unpacking: AsyncExitStack, holding: AsyncExitStack
    ) -> Prepared:
        """Prepare what is sent of `content`.

        Args:
            content: the upload's bytes; they are unpacked in place.
            question: says which pages are meant, and how closely the model looks.
            unpacking: gives back the memory for what was unpacked.
            holding: gives back the memory for pages.

        Raises:
            RetryableFailure: this instance had no memory left for it.
        """
        limits = replace(self._limits, seen=of_detail(question.detail))
        try:
            await self._unpack(content, unpacking)
            if is_pdf(content.data):
                return await self._prepare_pdf(content.data, question.pages or ALL, limits.seen, holding)
            inspection = await _inspected(content.data, limits)
        except PermanentFailure as failure:
            return Prepared(failure=failure)
        facts = inspection.facts
        try:
            if facts.pages is not None and (facts.pages > 1 or question.pages):
                tiff = content.data[inspection.start :] if inspection.start else content.data
                picture: PreparedImage | Pages = await self._tiff_pages(tiff, facts.pages, question, limits, holding)
            elif _may_have_frames(inspection) or question.pages:
                frames = await asyncio.to_thread(number_of_frames, content.data, inspection)
                facts = replace(facts, pages=frames if frames > 1 else facts.pages)
                picture = await self._frames(content.data, inspection, frames, question.pages or FIRST, limits, holding)
            else:
                picture = await self._image(content.data, inspection, limits)
        except PermanentFailure as failure:
            return Prepared(facts, failure=failure)
        return Prepared(facts, picture)

    async def _prepare_pdf(
        self, data: bytes, choice: PageChoice, seen: Resolution, reserved: AsyncExitStack
    ) -> Prepared:
        from pipeline.documents.pdf import render_pdf  # noqa: PLC0415 - images pay nothing for it

        process = min(process_bytes(seen), self._limits.max_conversion_bytes)
        shrink = await self._reserve(process + MOST_SENT_BYTES, reserved)
        async with self._conversions:
            rendering = await render_pdf(data, choice, self._most_pages, process, seen)
        shrink(rendering.pages.size_bytes)
        return Prepared(rendering.facts, rendering.pages)

    async def _reserve(self, amount: int, reserved: AsyncExitStack) -> Callable[[int], None]:
        """Wait for memory for a document: of what all pages may hold, and of what all conversions may.

        Returns a function that lets go of all but so many bytes.
        """
        holds = [await reserved.enter_async_context(budget.held(amount)) for budget in (self._pages, self._pixels)]

        def shrink(kept: int) -> None:
            for hold in holds:
                hold.shrink(kept)

        return shrink

    async def _tiff_pages(
        self, data: bytes, count: int, question: Question, limits: ImageLimits, reserved: AsyncExitStack
    ) -> PreparedImage | Pages:
        numbers = self._chosen(question.pages or ALL, count, "TIFF", "page")
        pages = [(number, inspect_page(data, limits, number), 1) for number in numbers]
        return await self._converted(pages, data, count, "page", limits, reserved)

    async def _frames(  # noqa: PLR0913, PLR0917 - the animation, and what is known of it
        self,
        data: bytes,
        inspection: Inspection,
        count: int,
        choice: PageChoice,
        limits: ImageLimits,
        reserved: AsyncExitStack,
    ) -> PreparedImage | Pages:
        numbers = self._chosen(choice, count, inspection.facts.format.upper(), "frame")
        if numbers == [1]:
            return await self._image(data, inspection, limits)
        frames = [(number, inspection, number) for number in numbers]
        return await self._converted(frames, data, count, "frame", limits, reserved)

    def _chosen(self, choice: PageChoice, count: int, kind: str, noun: str) -> list[int]:
        try:
            numbers = choice.numbers(count, noun)
        except NoSuchPages as error:
            raise no_such_pages(kind, count, str(error)) from None
        if len(numbers) > self._most_pages:
            raise too_many_pages(count, len(numbers), noun)
        return numbers

    async def _converted(  # noqa: PLR0913, PLR0917 - likewise
        self,
        pages: list[tuple[int, Inspection, int]],
        data: bytes,
        count: int,
        noun: str,
        limits: ImageLimits,
        reserved: AsyncExitStack,
    ) -> Pages:
        """Each page as an image: its number, its inspection, and its frame."""
        largest = max(inspection.conversion_bytes for _, inspection, _ in pages)
        shrink = await self._reserve(largest + MOST_SENT_BYTES, reserved)
        sent: list[SentPage] = []
        left = MOST_SENT_BYTES
        for place, (number, inspection, frame) in enumerate(pages):
            share = min(SERVICE_MAX_BYTES, left // (len(pages) - place))
            async with self._conversions:
                try:
                    image = await asyncio.to_thread(convert, data, inspection, limits, frame, share)
                except ValueError:
                    raise _too_large_together(noun, limits.seen) from None
            left -= len(image.data)
            sent.append(SentPage(number, image))
        shrink(MOST_SENT_BYTES - left)
        return Pages(count, tuple(sent), noun)

    async def _image(self, data: bytes, inspection: Inspection, limits: ImageLimits) -> PreparedImage:
        if inspection.sendable:
            return as_stored(data, inspection)
        async with self._pixels.held(inspection.conversion_bytes), self._conversions:
            return await asyncio.to_thread(convert, data, inspection, limits)

    async def _unpack(self, content: Content, reserved: AsyncExitStack) -> None:
        """Unpack what was stored compressed, whatever its Content-Encoding says."""
        if not is_packed(content.data):
            return
        limit = self._limits.max_bytes
        await reserved.enter_async_context(self._memory.held(2 * limit))
        try:
            content.replace(await asyncio.to_thread(unpacked, content.data, limit))
        except TooLarge:
            raise PermanentFailure(
                ErrorCode.IMAGE_TOO_LARGE,
                f"The file is compressed (gzip or deflate) and unpacks to more than the {limit:,} bytes that are"
                " accepted. Upload the image itself, saved smaller.",
                {"max_bytes": limit},
            ) from None
        except Broken as error:
            raise PermanentFailure(
                ErrorCode.CORRUPT_IMAGE,
                f"The file is compressed (gzip or deflate) and can't be unpacked: {error}. Upload the image itself,"
                " without a Content-Encoding.",
            ) from None


async def _inspected(data: bytes, limits: ImageLimits) -> Inspection:
    try:
        return inspect(data, limits)
    except Unclear as unclear:
        return await asyncio.to_thread(inspect_by_decoder, data, unclear, limits)


def _may_have_frames(inspection: Inspection) -> bool:
    kind = inspection.facts.format
    return kind in _SEQUENCES or (kind in _ANIMATED and inspection.obstacle == "an animation")


def _too_large_together(noun: str, seen: Resolution) -> PermanentFailure:
    smaller = ", or write another detail than original" if seen == ORIGINAL else ""
    return PermanentFailure(
        ErrorCode.IMAGE_TOO_LARGE,
        f"The {noun}s that were chosen have more than {MOST_SENT_BYTES // 1_000_000:,} MB together, more than one"
        f" question may hold. Name fewer with the option pages{smaller}.",
        {"max_bytes": MOST_SENT_BYTES},
    )
