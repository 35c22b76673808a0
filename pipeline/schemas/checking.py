"""Answers checked against a schema, in bounded time and memory.

The validator is compiled for each answer, and dropped. That takes microseconds (20 for the receipt of the samples), and
what a schema compiles to may be a thousand times what was written: so nothing compiled is held. The validator keeps the
interpreter to itself while it compiles or checks, in whatever thread that is. So what it is given is bounded before:

* compiling, by the number of values (`plain`) and by the patterns (here);
* checking a value, by the schemas that may look at it, each as often as `$ref`s lead to it, and by what they list;
* matching a text, by the compiled size of the patterns: the worst case of the engine (Rust's `regex`, without
  look-around and back-references) is linear in both.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pipeline.schemas.answers import AnswerMismatch, Extent, first_problems, mismatch
from pipeline.schemas.document import Document, Schema, refusal
from pipeline.schemas.plain import InvalidSchema
from pipeline.schemas.wording import Pointer

if TYPE_CHECKING:
    from jsonschema_rs import Validator

MAX_STEPS = 20_000
"""For one value, recursion left alone."""
MAX_CHECKS = 5_000_000
"""Steps for a whole answer, in the worst case; one takes some 20 to 50 ns."""
MAX_LISTED = 20_000
"""Steps in which everything that fails is found: that takes 15 µs each, and some recursions double them by level."""
MAX_EXPLAINED = 100_000
"""Steps in which the first failure is found; where a choice fails as a whole, that takes some 3 µs each."""
MAX_PATTERN_CHARACTERS = 4_000
"""Of all patterns, a class counted as `CLASS_CHARACTERS`. Three of 2,400 published schemas with patterns have more."""
CLASS_CHARACTERS = 40
"""Of \\d, \\w and \\s the translation to Rust takes time by the square of their number, 4,000 of them 40 s. A \\p{…}
takes 5 KB before a limit counts."""
MAX_PATTERN_BYTES = 512 * 1024
"""Of all compiled patterns as the engine counts them; it really takes up to 14 times that while they are in use."""
MATCHER_BYTES = 64 * 1024
"""Bytes that each may take in addition while it matches; with less, even simple ones are slow."""
MAX_PATTERN_WORK = 5_000_000_000
"""Bytes of compiled patterns times characters of the answer; the worst of them takes 0.06 ns."""

_CLASSES = frozenset("dDwWsSpP")
_IGNORING_CASE = re.compile(r"\(\?[a-z]*i")


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks answers against the schema `root`."""

    root: Schema
    steps: int
    """To check a value, at most."""
    pattern_bytes: int
    """Bytes that each pattern may compile to."""
    pattern_uses: int

    @classmethod
    def of(cls, document: Document) -> Self:
        """Raises InvalidSchema: to compile or to check it might take too much time or memory."""
        steps = document.unfolded(_steps)
        if steps > MAX_STEPS:
            raise InvalidSchema(
                (), f"to check a value against it may take more than {MAX_STEPS:,} steps: use fewer $refs, list less"
            )
        patterns = dict(_patterns(document))
        _check_length(patterns)
        uses = document.unfolded(_pattern_uses) if patterns else 0
        return cls(document.root, steps, _pattern_bytes(document.root, patterns), uses)

    def first_valid(self, candidates: Sequence[Any], extent: Extent) -> Any:
        """The first of these readings of one answer that meets the schema.

        Raises:
            AnswerMismatch: none does, and what is wrong with the first; or it is too large to find out.
        """
        work = self.pattern_uses * self.pattern_bytes * extent.characters
        if self.steps * extent.values > MAX_CHECKS or work > MAX_PATTERN_WORK:
            raise mismatch(f"it is too large to be checked against this schema ({extent.values} values)")
        validator = _compiled(self.root, self.pattern_bytes)
        for value in candidates:
            if validator.is_valid(value):
                return value
        raise self._mismatch(validator, candidates[0], extent)

    def _mismatch(self, validator: "Validator", value: Any, extent: Extent) -> AnswerMismatch:
        import jsonschema_rs  # noqa: PLC0415 - see below

        work = Document(self.root).unfolded(_steps, extent.levels) * extent.values
        if work > MAX_EXPLAINED:
            return mismatch("it does not match (it is too large, or the schema too recursive, to say where)")
        try:
            if work > MAX_LISTED:
                validator.validate(value)
        except jsonschema_rs.ValidationError as first:
            return AnswerMismatch(first_problems([first]))
        return AnswerMismatch(first_problems(validator.iter_errors(value)))


def _compiled(root: Schema, pattern_bytes: int) -> "Validator":
    import jsonschema_rs  # noqa: PLC0415 - most images are asked about without a schema

    return jsonschema_rs.validator_for(
        root,
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=pattern_bytes, dfa_size_limit=MATCHER_BYTES),
        offline=True,
    )


def _pattern_bytes(root: Schema, patterns: dict[str, Pointer]) -> int:
    """About the least size with which all compile: the smaller, the longer the answers that can be checked."""
    import jsonschema_rs  # noqa: PLC0415 - see above

    most = MAX_PATTERN_BYTES // max(1, len(patterns))
    for size in (most // 64, most // 8, most):
        try:
            _compiled(root, size)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            refused = error
        else:
            return size
    raise refusal(refused, ())


def _patterns(document: Document) -> Iterator[tuple[str, Pointer]]:
    """Each with a place where it is."""
    for where, schema in document.schemas():
        if isinstance(schema, dict):
            if "pattern" in schema:
                yield schema["pattern"], (*where, "pattern")
            yield from ((name, (*where, "patternProperties", name)) for name in schema.get("patternProperties", ()))


def _check_length(patterns: dict[str, Pointer]) -> None:
    left = MAX_PATTERN_CHARACTERS
    for pattern, where in patterns.items():
        escapes = re.findall(r"\\(.)", pattern, re.DOTALL)
        left -= len(pattern) + CLASS_CHARACTERS * sum(letter in _CLASSES for letter in escapes)
        if left < 0:
            raise InvalidSchema(
                where,
                f"the patterns have more than {MAX_PATTERN_CHARACTERS:,} characters (a \\d or \\w counts as"
                f" {CLASS_CHARACTERS}): write fewer or simpler ones, or describe it in words",
            )
        if _IGNORING_CASE.search(pattern):
            raise InvalidSchema(where, "patterns have no (?i): write both cases, as in [Aa]")


def _pattern_uses(schema: Any) -> int:
    return ("pattern" in schema) + len(schema.get("patternProperties", ())) if isinstance(schema, dict) else 0


def _steps(schema: Any) -> int:
    """To check a value against `schema`, what is below it left aside."""
    if not isinstance(schema, dict):
        return 1
    steps = 1 + _size(schema.get("required", []))
    for key in ("enum", "const", "dependentRequired", "dependencies"):
        # They are compared one by one; a text or number takes a few nanoseconds.
        steps += sum(8 * _size(part) if isinstance(part, list | dict) else 1 for part in _parts(schema.get(key))) // 8
    if "multipleOf" in schema:  # exactly, as a fraction of so many bits
        steps += 30 + abs(math.frexp(schema["multipleOf"])[1])
    return steps


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _size(value: Any) -> int:
    return 1 + sum(map(_size, _parts(value)))
