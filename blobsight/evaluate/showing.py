"""An evaluation of a trial: on a terminal, as one table in a pipe, as JSON."""

from collections.abc import Container, Sequence
from typing import Any

from blobsight.evaluate import report
from blobsight.evaluate.scores import Evaluation
from blobsight.terminal import one_line, out, say, shortened, table
from blobsight.trials.cost import cost_json
from blobsight.trials.models import Models
from blobsight.trials.showing import measures, show_measures
from blobsight.trials.steps import Tried
from blobsight.trials.variants import numbered

RIGHT_ALIGNED = (1, 3, 4, 5, 6, 7, 8)
"""Columns of the summary that are numbers."""


class Shown:
    """An evaluation, shown on the terminal or as JSON."""

    def __init__(
        self, found: Evaluation, outcome: Tried, models: Models, min_accuracy: float | None, *, second: bool
    ) -> None:
        self._found = found
        self._outcome = outcome
        self._models = models
        self._min_accuracy = min_accuracy
        self._second = second
        self.below = report.below(found, min_accuracy) if min_accuracy is not None else []

    def show(self) -> None:
        """Write the summary to stdout, and on a terminal the rest, too. In a pipe, one table is data."""
        if out.is_terminal:
            show_measures(self._outcome.trial, self._outcome.answers, self._models)
            out.print()
        if self._second:
            self._show_agreement()
        else:
            table(report.SUMMARY, self._numbered(report.summary(self._found), {1}), right=RIGHT_ALIGNED)
        if out.is_terminal:
            self._show_more()
        self._say_gate()
        trial = self._outcome.trial
        say(
            f"`blobsight try promote {trial.name} --variant N FOLDER` makes a variant the folder's question;"
            f" `blobsight try show {trial.name}` shows all answers.",
            "dim",
        )

    def _show_more(self) -> None:
        if rows := self._numbered(report.differences(self._found), {1, 2}):
            out.print()
            table(report.DIFFERENCES, rows, right=(1, 2, 3, 4))
        if rows := self._numbered(report.worst(self._found), {1}):
            out.print()
            if self._second:
                names = [one_line(variant.label) for variant in self._outcome.trial.variants]
                table(("image", "field", *names, "how"), [(image, *values) for image, _, *values in rows])
            else:
                table(report.WRONG, rows, right=(1,))

    def _numbered(self, rows: Sequence[Sequence[str]], labels: Container[int]) -> Sequence[Sequence[str]]:
        """On a terminal, rows with variants' numbers in the columns of their `labels`, and repeated names left out."""
        if not out.is_terminal:
            return rows
        numbers = {
            shortened(variant.label, 60): str(number) for number, variant in numbered(self._outcome.trial.variants)
        }
        shown: list[list[str]] = []
        before = ""
        for row in rows:
            cells = [numbers.get(cell, cell) if column in labels else cell for column, cell in enumerate(row)]
            before, cells[0] = cells[0], "" if cells[0] == before else cells[0]
            shown.append(cells)
        return shown

    def _show_agreement(self) -> None:
        rows = [
            (name, score.field.kind.value, report.percent(score.accuracy), f"{score.n - score.right:,}", f"{score.n:,}")
            for name, score in report.agreement(self._found)
        ]
        table(("field", "compared as", "agree", "differ", "of"), rows, right=(2, 3, 4))

    def _say_gate(self) -> None:
        if self._min_accuracy is None:
            return
        wanted = report.percent(self._min_accuracy)
        for one in self.below:
            say(
                f"Below {wanted}: {one_line(one.field)} of '{one_line(one.variant)}', {report.percent(one.accuracy)}.",
                "red",
            )
        if not self.below:
            say(f"Every field of every variant reaches {wanted}.", "green")

    def to_json(self) -> dict[str, Any]:
        outcome = self._outcome
        value = {"trial": outcome.trial.name} | report.to_json(self._found)
        for number, (variant, sums) in enumerate(measures(outcome.trial, outcome.answers, self._models), 1):
            about = {
                "number": number,
                "id": variant.id,
                "instructions": variant.instructions,
                "options": variant.options.model_dump(by_alias=True, exclude_none=True),
            }
            scored = value["variants"].setdefault(variant.label, {})
            value["variants"][variant.label] = about | scored | {"measured": sums.to_json()}
        if self._second:
            value["agreement"] = {name: score.accuracy for name, score in report.agreement(self._found)}
        if self._min_accuracy is not None:
            value["min_accuracy"] = self._min_accuracy
            value["below"] = [
                {"variant": one.variant, "field": one.field, "accuracy": one.accuracy} for one in self.below
            ]
        value["asked"] = cost_json(outcome.plan.costs) if outcome.plan else None
        return value
