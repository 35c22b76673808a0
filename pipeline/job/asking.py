"""The question about an image, from its instructions and the settings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from pipeline.documents.choice import PageChoice
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.instructions import Authority, Files, InstructionSources, Origin
from pipeline.instructions.options import Options
from pipeline.job.requests import Request
from pipeline.job.work import Asked, NotAsked
from pipeline.model.question import Buying, Question
from pipeline.settings import Settings

_PATIENT = frozenset({"flex", "batch"})
"""Tiers that answer when they can."""


class Asking:
    """Finds what is asked. One per process: it remembers folders' instruction files for a while.

    Args:
        files: where instruction files are.
    """

    def __init__(
        self, settings: Settings, files: Files, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._now = now
        authority = Authority.of(settings)
        self.sidecars_count = authority.uploaders_sidecars_count
        """Whether a sidecar that arrives beside an image can change what is asked about it."""
        self._requests_count = Origin.REQUEST in authority.sources
        self._sources = InstructionSources(files, settings.default_instructions, authority)

    async def about(self, name: str | None, metadata: Mapping[str, str], request: Request) -> Asked | NotAsked:
        """Find what is asked about the image `name` with this `metadata`; what `request` asks comes first.

        Where an image has no place of its own (None), only the request and the settings ask.

        A question whose patience with flex is over, as `request` says, goes on as it is meant to then.

        Raises:
            RetryableFailure: an instruction file can't be read now.
        """
        asked = await self._found(name, metadata, request.instructions, request.options)
        if isinstance(asked, Asked) and request.flex and request.flex.until <= self._now():
            question = asked.question
            return replace(asked, question=replace(question, buying=question.buying.after_flex))
        return asked

    async def about_bytes(self, text: str | None) -> Asked | NotAsked:
        """Find what is asked about an image that came by HTTP with this `text`.

        Its caller waits for the answer, so it is asked at once where SERVICE_TIER has patience.
        """
        if text and text.strip() and not self._requests_count:
            refused = PermanentFailure(
                ErrorCode.INVALID_INSTRUCTIONS,
                "A request may not ask anything of its own here (the operator's setting INSTRUCTION_SOURCES): leave out"
                " 'instructions'.",
            )
            return NotAsked(self._settings.openai_deployment, refused)
        asked = await self._found(None, {}, text, None)
        if isinstance(asked, Asked) and asked.question.service_tier in _PATIENT:
            return replace(asked, question=asked.question.at("default"))
        return asked

    async def is_misnamed(self, sidecar: str) -> bool:
        """Whether the file `sidecar`, whose image is not there, was meant to be called otherwise."""
        return await self._sources.misnamed(sidecar) is not None

    async def _found(
        self, name: str | None, metadata: Mapping[str, str], text: str | None, given: Options | None
    ) -> Asked | NotAsked:
        settings = self._settings
        try:
            found = await self._sources.find(name, metadata, text, given)
        except PermanentFailure as failure:
            return NotAsked(settings.openai_deployment, failure)
        options = found.options
        question = Question(
            instructions=found.text,
            deployment=options.deployment or settings.openai_deployment,
            system_prompt=settings.system_prompt,
            detail=options.detail or settings.image_detail,
            max_output_tokens=options.max_output_tokens or settings.max_output_tokens,
            reasoning_effort=options.reasoning_effort or settings.reasoning_effort,
            schema=found.schema,
            pages=PageChoice.parse(options.pages) if options.pages else None,
            per_page=bool(options.per_page),
            most_output_tokens=settings.max_output_tokens,
            detail_by_setting=options.detail is None,
            buying=self._buying(options),
        )
        refused = self._refused_batch(question)
        return NotAsked(settings.openai_deployment, refused) if refused else Asked(found, question)

    def _refused_batch(self, question: Question) -> PermanentFailure | None:
        """Why an option may not choose the tier `batch`; None where it may, or does not."""
        own = self._settings.openai_deployment
        if question.service_tier != "batch" or (self._settings.batch_deployment and question.deployment == own):
            return None
        why = (
            f"answers for the deployment '{own}' alone: leave out one of the options service_tier and deployment"
            if self._settings.batch_deployment
            else "is not set up here (the operator's setting BATCH_DEPLOYMENT): choose another service_tier"
        )
        return PermanentFailure(ErrorCode.INVALID_INSTRUCTIONS, f"The service_tier batch {why}.")

    def _buying(self, options: Options) -> Buying:
        settings, patience = self._settings, options.flex_patience
        by_setting = settings.service_tier
        if by_setting == "batch" and options.deployment not in (None, settings.openai_deployment):
            by_setting = "default"  # no batch is set up for another deployment
        return Buying(
            tier=options.service_tier or by_setting,
            by_option=options.service_tier is not None,
            fallback=options.tier_fallback or settings.tier_fallback,
            flex_patience=settings.flex_patience_seconds if patience is None else patience,
        )
