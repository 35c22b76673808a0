"""Structured answers: a JSON Schema to ask the model for, and the check that its answer meets it.

The service takes part of JSON Schema only, and its strict mode, in which it cannot answer otherwise, still less. So a
schema is sent in one of two ways:

* strict, in a form that the service takes: objects closed, every property required (one that may be left out may be
  null instead), choices as `anyOf`. What is only a check of values (`minimum`, `pattern`, `format`, …) is not sent; the
  model reads it in the description;
* otherwise as guidance, as it was written, with `strict: false`.

Either way the answer is then checked against the schema as it was written, all of it, so that the way it was sent
decides how often a model fails, never what counts as an answer.

Strict mode's rules, as documented:
    Types string, number, integer, boolean, object, array, enum, anyOf; a root that is an object and no anyOf; all
    properties required, optional ones emulated by a union with null; `additionalProperties: false` always; at most 100
    properties and five levels; no minLength, maxLength, pattern, format, minimum, maximum, multipleOf,
    patternProperties, unevaluatedProperties, propertyNames, minProperties, maxProperties, unevaluatedItems, contains,
    minContains, maxContains, minItems, maxItems, uniqueItems; `$defs` and recursion by `$ref` work.
        learn.microsoft.com/azure/ai-foundry/openai/how-to/structured-outputs ("Supported schemas and limitations")
    No allOf, not, dependentRequired, dependentSchemas, if, then, else. The limits there are now 5,000 properties, ten
    levels, 1,000 enum values and 120,000 characters of names and values; Azure's page has the older, lower ones.
        developers.openai.com/api/docs/guides/structured-outputs ("Supported schemas")
    500 enum values, 15,000 characters of names and values: the limits of OpenAI's page when its others were those that
    Azure's page still has.
        docs.snaplogic.com/snaps/snaps-machine-learning/sp-azure-openai-llm/azure-openai-structured-outputs.html
Not documented, but answered with 400:
    oneOf ("is not permitted"); keywords next to a `$ref` ("$ref cannot have keywords"; next to an `anyOf` they may be):
    openai-agents-python#1884, langchainjs#11384, pydantic_ai/profiles/openai.py; objects in an anyOf whose first
    properties have the same name: openai-python#2193.
Of two limits the lower one is taken: above it the schema goes as guidance, which works wherever it is.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pipeline.schemas.answers import AnswerMismatch, extent, parse, without_fence
from pipeline.schemas.checking import Checker
from pipeline.schemas.document import COMBINATIONS, Document, Schema
from pipeline.schemas.pasted import unwrapped
from pipeline.schemas.plain import InvalidSchema, plain
from pipeline.schemas.stand_ins import without_stand_ins
from pipeline.schemas.strict import NotStrict, StrictForm, with_note
from pipeline.schemas.wording import compact

__all__ = ["AnswerMismatch", "AnswerSchema", "InvalidSchema"]


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """The shape that an answer must have. Made by `of`; two are equal when they ask for the same."""

    digest: str
    """SHA-256 of the definition, hexadecimal. The order of keys counts: the service answers in that of `properties`."""
    response_format: Mapping[str, Any] = field(compare=False, repr=False)
    """The chat completion request's member of that name."""
    loosened: str | None = field(compare=False)
    """Why the service is not held to the schema (`strict: false`); None when it is."""
    _checker: Checker = field(compare=False, repr=False)

    @classmethod
    def of(cls, definition: Any) -> Self:
        """The schema in `definition`, a parsed JSON or YAML document.

        Raises:
            InvalidSchema: it is not a JSON Schema, or one that can't be asked for or can't be checked.
        """
        document = Document(unwrapped(plain(definition)))
        document.root_object()
        checker = Checker.of(document)
        loosened = None
        try:
            schema = StrictForm(document).schema
        except NotStrict as reason:
            schema, loosened = _guidance(document), str(reason)
        name = _name(document.root.get("title", ""))
        return cls(
            digest=hashlib.sha256(compact(document.root).encode()).hexdigest(),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": name, "strict": loosened is None, "schema": schema},
            },
            loosened=loosened,
            _checker=checker,
        )

    @property
    def strict(self) -> bool:
        """Whether the service guarantees the schema."""
        return self.loosened is None

    def check(self, text: str) -> Any:
        """The value in the model's `text`, without the nulls that only stand for properties left out.

        Raises:
            AnswerMismatch: the text is not JSON, or its value does not meet the schema as it was written.
        """
        value = parse(text if self.strict else without_fence(text))
        size = extent(value)
        if not self.strict:
            return self._checker.first_valid([value], size)
        sent = self.response_format["json_schema"]["schema"]
        return self._checker.first_valid([without_stand_ins(value, sent, sent), value], size)


def _name(title: str) -> str:
    """The service wants ^[a-zA-Z0-9_-]{1,64}$."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", title).strip("_")[:64] or "answer"


def _guidance(document: Document) -> Schema:
    """The schema for `strict: false`. There, too, the root has to be a plain object: what else it says becomes text."""
    _, target = document.root_object()
    aside = {to[0]: document.root[to[0]] for to in document.targets if to}
    schema = {key: value for key, value in (target | aside).items() if key != "$schema"}
    combined = {key: schema.pop(key) for key in (*COMBINATIONS, "not", "enum", "const", "$ref") if key in schema}
    if combined:
        schema["description"] = with_note(schema.get("description"), f"Must also meet: {compact(combined)}")
    return schema | {"type": "object"}
