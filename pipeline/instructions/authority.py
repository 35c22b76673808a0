"""Who may say what: which sources count, in what order, and what their options may be. The operator's choice.

People who may only upload write metadata and, unless there is a container for instructions, the files. What of that
counts is settled here and nowhere else, so that leaving a source out or lowering a ceiling needs no other change.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self, get_args

from pipeline.instructions.options import InvalidOption, Options
from pipeline.one_line import short
from pipeline.settings import MOST_OUTPUT_TOKENS, InstructionSource, Settings


class Origin(StrEnum):
    """The source that the text came from, in the usual order of authority."""

    REQUEST = "request"
    METADATA = "metadata"
    SIDECAR = "sidecar"
    FOLDER = "folder"
    SETTING = "setting"
    BUILT_IN = "builtin"


OF_FILES = frozenset({Origin.SIDECAR, Origin.FOLDER})
"""Sources that are files in a container."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What sources may say. None stands for anything.

    `files_are_the_operators` says that instruction files lie where uploaders can't write: locked options are theirs to
    set, and files beside the images count for nothing.
    """

    sources: tuple[Origin, ...] = tuple(Origin(name) for name in get_args(InstructionSource.__value__))
    files_are_the_operators: bool = False
    locked: frozenset[str] = frozenset()
    details: tuple[str, ...] | None = None
    efforts: tuple[str, ...] | None = None
    deployments: tuple[str, ...] | None = None
    tiers: tuple[str, ...] | None = None
    most_output_tokens: int = MOST_OUTPUT_TOKENS

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            sources=tuple(Origin(name) for name in settings.instruction_sources),
            files_are_the_operators=settings.instructions_container is not None,
            locked=frozenset(settings.locked_options or ()),
            details=settings.allowed_details,
            efforts=settings.allowed_efforts,
            deployments=settings.deployments,
            tiers=settings.tiers,
            most_output_tokens=settings.max_output_tokens,
        )

    @property
    def uploaders_files_count(self) -> bool:
        """Whether a file beside the images can say what to ask."""
        return not self.files_are_the_operators and not OF_FILES.isdisjoint(self.sources)

    @property
    def uploaders_sidecars_count(self) -> bool:
        """Whether a file beside an image can say what to ask about that image."""
        return not self.files_are_the_operators and Origin.SIDECAR in self.sources

    def require_allowed(self, options: Options, origin: Origin) -> None:
        """Check what one source says.

        Raises:
            InvalidOption: the first option that is locked, or is above its ceiling. The message names the setting.
        """
        if not (self.files_are_the_operators and origin in OF_FILES):
            for name in sorted(self.locked):
                if options.value_of(name) is not None:
                    raise InvalidOption(
                        name, f"the option '{name}' is the operator's to set (LOCKED_OPTIONS): leave it out"
                    )
        for name, allowed, setting in (
            ("detail", self.details, "ALLOWED_DETAILS"),
            ("reasoning_effort", self.efforts, "ALLOWED_EFFORTS"),
            ("deployment", self.deployments, "ALLOWED_DEPLOYMENTS"),
            ("service_tier", self.tiers, "ALLOWED_TIERS"),
            # Falling back to a tier is choosing it.
            ("tier_fallback", self.tiers and ("none", *({"default"} & set(self.tiers))), "ALLOWED_TIERS"),
        ):
            value = options.value_of(name)
            if value is not None and allowed is not None and value not in allowed:
                raise InvalidOption(
                    name,
                    f"'{name}' is '{short(value, 60)}': here it may be {' or '.join(allowed) or 'left out only'}"
                    f" (the operator's setting {setting})",
                )
        if (options.max_output_tokens or 0) > self.most_output_tokens:
            raise InvalidOption(
                "max_output_tokens",
                f"'max_output_tokens' is {options.max_output_tokens}: here it may be at most"
                f" {self.most_output_tokens:,} (the operator's setting MAX_OUTPUT_TOKENS)",
            )
