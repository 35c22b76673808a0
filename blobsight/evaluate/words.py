"""The words of the page, for its two kinds: expected answers, and a second opinion."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from blobsight.evaluate.comparing import Outcome


@dataclass(frozen=True, slots=True)
class Words:
    """What things are called. They are text, not HTML."""

    images: str
    """What the images have, after their number."""
    share: str
    expected: str
    """Head of the column of expected answers."""
    sides: Mapping[str, str]
    """What reasons call the expected and the given value."""
    counts: Mapping[Outcome, str]
    """Heads of columns of counts."""
    tags: Mapping[Outcome, str]
    """What one value is."""
    signs: Mapping[Outcome, str]
    """The same at a glance."""
    whole: str
    """Of images without anything wrong; empty where a variant alone has none."""
    only_wrong: str
    all_right: str
    wrong: str
    """After the number of values."""
    folded: str
    """After the number of values that are right."""
    wrong_in: str
    """Before the number of images."""

    def why(self, why: str) -> str:
        """The reason that `comparing` gives for a value."""
        return re.sub(r"\b(expected|given)\b", lambda found: self.sides[found[1]], why)


EXPECTED = Words(
    images="with an expected answer",
    share="Accuracy",
    expected="Expected",
    sides={"expected": "expected", "given": "given"},
    counts={Outcome.RIGHT: "right", Outcome.WRONG: "wrong", Outcome.MISSING: "missing", Outcome.INVENTED: "invented"},
    tags={Outcome.RIGHT: "right", Outcome.WRONG: "wrong", Outcome.MISSING: "missing", Outcome.INVENTED: "invented"},
    signs={Outcome.RIGHT: "✓", Outcome.WRONG: "✗", Outcome.MISSING: "∅", Outcome.INVENTED: "+"},
    whole="images all right",
    only_wrong="Only wrong",
    all_right="all right",
    wrong="wrong",
    folded="right",
    wrong_in="something is wrong in",
)


def second_opinion(first: str, second: str) -> Words:
    """The words where nothing is expected: two variants agree or differ, neither is right."""
    return Words(
        images="that both have answered",
        share="Agreement",
        expected=first,
        sides={"expected": "first", "given": "second"},
        counts={
            Outcome.RIGHT: "agree",
            Outcome.WRONG: "differ",
            Outcome.MISSING: f"only {first}",
            Outcome.INVENTED: f"only {second}",
        },
        tags={
            Outcome.RIGHT: "agrees",
            Outcome.WRONG: "differs",
            Outcome.MISSING: "has none",
            Outcome.INVENTED: "only here",
        },
        signs={Outcome.RIGHT: "=", Outcome.WRONG: "≠", Outcome.MISSING: "∅", Outcome.INVENTED: "+"},
        whole="",
        only_wrong="Only where they differ",
        all_right="agrees",
        wrong="different",
        folded="in agreement",
        wrong_in="the two differ in",
    )
