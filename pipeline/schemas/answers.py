"""The model's text as a value, and what is wrong with a value, in words."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.one_line import short
from pipeline.schemas.wording import compact, pointer_text

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

MAX_ANSWER_CHARACTERS = 2_000_000
"""128,000 tokens, the most that a current model answers, are about 500,000."""
MAX_ANSWER_NESTING = 64
MAX_PROBLEMS = 10
MAX_PROBLEM_CHARACTERS = 300
MAX_DIGITS = 309
"""The largest double has as many: few readers of the result make anything of more."""


class AnswerMismatch(Exception):
    """The answer is not what the schema asks for.

    `problems` has one to `MAX_PROBLEMS` entries: `path`, a JSON pointer into the answer, and `problem`.
    """

    def __init__(self, problems: Sequence[dict[str, str]]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        at = f"at {first['path']}: " if first["path"] else ""
        super().__init__(f"The model's answer does not meet the schema: {at}{first['problem']}{more}.")


def mismatch(problem: str) -> AnswerMismatch:
    """The answer as a whole won't do."""
    return AnswerMismatch([{"path": "", "problem": problem}])


def without_fence(text: str) -> str:
    """The inside of ```json … ```, in which models like to wrap what nothing holds them to."""
    stripped = text.strip()
    if len(stripped) < 6 or not (stripped.startswith("```") and stripped.endswith("```")):
        return text
    language, newline, inside = stripped[3:-3].partition("\n")
    return inside if newline and language.strip().lower() in ("", "json") else text


def parse(text: str) -> Any:
    """The JSON value in `text`, stricter than Python's: no NaN, no key twice. Raises AnswerMismatch."""
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise mismatch(f"it is longer than {MAX_ANSWER_CHARACTERS} characters")
    if not text.strip():
        raise mismatch("it is empty")
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_float, parse_int=_int
        )
    except json.JSONDecodeError as error:
        raise mismatch(f"it is not JSON ({error.msg}, line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise mismatch(f"it is nested deeper than {MAX_ANSWER_NESTING} levels") from None


@dataclass(slots=True)
class Extent:
    """How large an answer is."""

    values: int = 0
    levels: int = 0
    characters: int = 0
    """Of its texts and names."""

    def add_text(self, text: str) -> None:
        self.characters += len(text)
        try:
            text.encode()
        except UnicodeEncodeError:  # u+d83d without its other half, from an escape: UTF-8 has no such thing
            raise mismatch("it holds half a surrogate pair") from None


def extent(value: Any) -> Extent:
    """Raises AnswerMismatch for what can't be stored."""
    found = Extent()
    stack = [(value, 0)]
    while stack:
        item, level = stack.pop()
        found.values, found.levels = found.values + 1, max(found.levels, level)
        if level > MAX_ANSWER_NESTING:
            raise mismatch(f"it is nested deeper than {MAX_ANSWER_NESTING} levels")
        if isinstance(item, dict):
            for name in item:
                found.add_text(name)
            stack += [(part, level + 1) for part in item.values()]
        elif isinstance(item, list):
            stack += [(part, level + 1) for part in item]
        elif isinstance(item, str):
            found.add_text(item)
    return found


def first_problems(errors: Iterable["ValidationError"]) -> list[dict[str, str]]:
    return list(islice(_problems(errors), MAX_PROBLEMS))


def _problems(errors: Iterable["ValidationError"]) -> Iterator[dict[str, str]]:
    for error in errors:
        # A choice fails as a whole; what people want to know is what is wrong with the branch that was meant.
        context = getattr(error.kind, "context", ())
        meant = [branch for branch in context if branch and not any(_is_elsewhere(one, error) for one in branch)]
        if len(meant) == 1:
            yield from _problems(meant[0])
        else:
            path = pointer_text(tuple(map(str, error.instance_path)))
            yield {"path": short(path, MAX_PROBLEM_CHARACTERS), "problem": short(error.message, MAX_PROBLEM_CHARACTERS)}


def _is_elsewhere(error: "ValidationError", choice: "ValidationError") -> bool:
    """Whether `error` says that the value of `choice` is of another type, or another kind of object."""
    depth = len(error.instance_path) - len(choice.instance_path)
    return (error.kind.name == "type" and depth == 0) or (error.kind.name in ("const", "enum") and depth <= 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, part in pairs:
        if name in value:
            raise mismatch(f"the property {short(compact(name))} is there more than once")
        value[name] = part
    return value


def _no_number(text: str) -> NoReturn:
    raise mismatch(f"{text} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise mismatch(f"the number {short(text)} is too large")
    return number


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise mismatch(f"the number {short(text)} is too large")
    return int(text)
