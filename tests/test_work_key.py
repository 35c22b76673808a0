"""The work key changes exactly when something that changes the answer changes."""

from dataclasses import replace
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from pipeline.documents.choice import PageChoice
from pipeline.job.work import work_key
from pipeline.model.question import Buying, Question
from pipeline.schemas import AnswerSchema
from pipeline.settings import ServiceTier

SCHEMAS = [None, *(AnswerSchema.of({"type": "object", "properties": {name: {"type": "string"}}}) for name in "ab")]
TIERS: tuple[ServiceTier, ...] = get_args(ServiceTier.__value__)
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "instructions": st.text(),
    "deployment": st.text(),
    "system_prompt": st.text(),
    "detail": st.sampled_from(["auto", "low", "high", "original"]),
    "max_output_tokens": st.integers(1, 10**6),
    "reasoning_effort": st.sampled_from([None, "low", "high"]),
    "schema": st.sampled_from(SCHEMAS),
    "pages": st.sampled_from([None, *map(PageChoice.parse, ("all", "first", "last", "1-3", "3,1-2", "2-"))]),
    "per_page": st.booleans(),
}
questions = st.builds(Question, **CHANGES)
blobs = st.tuples(st.none() | st.text(), st.none() | st.text(), st.text())


def test_everything_in_a_question_is_accounted_for() -> None:
    # Two only word a message, the third only decides what the same answer costs and when it comes.
    assert set(CHANGES) == set(Question.__dataclass_fields__) - {"most_output_tokens", "detail_by_setting", "buying"}


@given(blobs, blobs, questions, questions)
def test_different_work_has_different_keys(
    one: tuple[str | None, str | None, str], other: tuple[str | None, str | None, str], ask: Question, also: Question
) -> None:
    same = (one, ask) == (other, also)
    assert (work_key(*one, ask.identity()) == work_key(*other, also.identity())) == same


@given(questions, st.builds(Buying), st.sampled_from(TIERS))
def test_how_an_answer_is_bought_does_not_count(question: Question, buying: Buying, tier: ServiceTier) -> None:
    assert replace(question, buying=buying).identity() == question.at(tier).identity() == question.identity()
    assert question.at(tier).service_tier == tier


@given(questions, st.data())
def test_each_part_of_a_question_counts(question: Question, data: st.DataObject) -> None:
    for name, values in CHANGES.items():
        changed = replace(question, **{name: data.draw(values)})
        assert (changed.identity() == question.identity()) == (changed == question)
