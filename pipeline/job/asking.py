"""The question about an image, from its instructions and the settings."""

from collections.abc import Mapping

from pipeline.documents.choice import PageChoice
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.instructions import Authority, Files, InstructionSources, Origin
from pipeline.instructions.options import Options
from pipeline.job.requests import Request
from pipeline.job.work import Asked, NotAsked
from pipeline.model.question import Question
from pipeline.settings import Settings


class Asking:
    """Finds what is asked. One per process: it remembers folders' instruction files for a while.

    Args:
        files: where instruction files are.
    """

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings = settings
        authority = Authority.of(settings)
        self.sidecars_count = authority.uploaders_sidecars_count
        """Whether a sidecar that arrives beside an image can change what is asked about it."""
        self._requests_count = Origin.REQUEST in authority.sources
        self._sources = InstructionSources(files, settings.default_instructions, authority)

    async def about(self, name: str, metadata: Mapping[str, str], request: Request) -> Asked | NotAsked:
        """Find what is asked about the image `name` with this `metadata`; what `request` asks comes first.

        Raises:
            RetryableFailure: an instruction file can't be read now.
        """
        return await self._found(name, metadata, request.instructions, request.options)

    async def about_bytes(self, text: str | None) -> Asked | NotAsked:
        """Find what is asked about an image that came by HTTP with this `text`."""
        if text and text.strip() and not self._requests_count:
            refused = PermanentFailure(
                ErrorCode.INVALID_INSTRUCTIONS,
                "A request may not ask anything of its own here (the operator's setting INSTRUCTION_SOURCES): leave out"
                " 'instructions'.",
            )
            return NotAsked(self._settings.openai_deployment, refused)
        return await self._found(None, {}, text, None)

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
        )
        return Asked(found, question)
