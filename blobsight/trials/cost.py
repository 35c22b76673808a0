"""The cost of a trial's questions that have no answer yet, by variant: what to expect, and the most that it can be."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from blobsight.account import Account
from blobsight.estimate.estimating import Assumptions, Estimate, estimated, experience_near, said
from blobsight.estimate.experience import Experience, experience_of
from blobsight.estimate.measuring import Size
from blobsight.estimate.prices import CURRENCY, Price, price_of
from blobsight.estimate.ranges import Range
from blobsight.terminal import Problem, counted, one_line, say
from blobsight.trials.allowed import Allowance
from blobsight.trials.asking import Question
from blobsight.trials.models import Models
from blobsight.trials.record import Trial, answers_of
from blobsight.trials.variants import Variant, numbered

ASKED_TWICE = 2
"""The app asks once more where an answer does not meet its schema."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one variant."""

    variant: Variant
    deployment: str
    questions: int
    estimate: Estimate
    tokens_at_most: int
    at_most: float | None
    """US dollars; None if the price is not known."""
    is_guess: bool = False
    """Whether nothing says which model answers: no result, and not the person."""


async def costs_of(  # noqa: PLR0913, PLR0917 - what a price depends on
    account: Account,
    trial: Trial,
    questions: Sequence[Question],
    sizes: Counter[Size | None],
    allowance: Allowance,
    models: Models,
) -> tuple[list[Cost], list[Problem]]:
    """Estimate what `questions` cost, for each variant that has some, and return the results that can't be read.

    Args:
        account: whose results say how long answers are: those to the same variant, or else the app's.
        trial: to which the questions belong.
        questions: those to be paid.
        sizes: of the trial's images.
        allowance: says which deployment is the app's own.
        models: as the person names them.

    Raises:
        AzureError: as the SDK gives it.
    """
    costs: list[Cost] = []
    problems: dict[str, Problem] = {}
    counts = Counter(question.variant.id for question in questions)
    for variant in trial.variants:
        if not counts[variant.id]:
            continue
        options = variant.options
        assumptions = Assumptions(
            model=models.of(variant, allowance.deployment),
            detail=options.detail or "auto",
            max_output_tokens=options.max_output_tokens or allowance.max_output_tokens,
            instructions=variant.instructions,
            service_tier=options.service_tier or "default",
        )
        experience, unread = await _experience(account, variant, assumptions)
        problems |= {problem.name: problem for problem in unread}
        estimate = estimated(sizes, counts[variant.id], 0, assumptions, experience)
        calls = _calls(variant, sizes)
        cost = _cost(variant, allowance, counts[variant.id], assumptions, estimate, calls)
        costs.append(replace(cost, is_guess=assumptions.model is None and experience is None))
    return costs, list(problems.values())


def _calls(variant: Variant, sizes: Counter[Size | None]) -> float:
    """The most calls for one image, a mean: one for each page, and another where an answer has to meet a schema."""
    pages = [size.pages for size in sizes.elements() if size]
    each = sum(pages) / len(pages) if pages and variant.options.per_page else 1
    return each * (ASKED_TWICE if variant.options.schema_ else 1)


async def _experience(
    account: Account, variant: Variant, assumptions: Assumptions
) -> tuple[Experience | None, Sequence[Problem]]:
    own = await experience_of(account.trials, answers_of(variant), model=assumptions.model)
    if own:
        return own, ()
    return await experience_near(account, "", assumptions)


def _cost(  # noqa: PLR0913, PLR0917 - what a price depends on
    variant: Variant, allowance: Allowance, questions: int, assumptions: Assumptions, estimate: Estimate, calls: float
) -> Cost:
    images, output = estimate.images, assumptions.max_output_tokens
    for_input = (estimate.image_tokens.high + estimate.prompt_tokens) / images if images else 0
    price = _price(estimate.model, assumptions.service_tier)
    return Cost(
        variant,
        variant.options.deployment or allowance.deployment,
        questions,
        estimate,
        round((for_input + output) * images * calls),
        float(price(for_input, output)) * images * calls if price else None,
    )


@cache
def _price(model: str, tier: str) -> Price | None:
    return price_of(model, tier)


def say_cost(trial: Trial, costs: Sequence[Cost], answered: int) -> None:
    """Say what the questions cost that are not answered yet: each variant, and all together."""
    by_id = {cost.variant.id: cost for cost in costs}
    unpriced: dict[str, None] = {}
    for number, variant in numbered(trial.variants):
        cost = by_id.get(variant.id)
        if cost is None:
            say(f"  {number} {one_line(variant.label)}: nothing, it is answered")
            continue
        if cost.at_most is None or cost.estimate.money is None:
            unpriced[cost.deployment] = None
            money = "price not known"
        else:
            money = f"{said(cost.estimate.money)}, at most {_dollars(cost.at_most)}"
        if cost.is_guess:
            unpriced[cost.deployment] = None
        model = f"{'taken to be ' if cost.is_guess else ''}{one_line(cost.estimate.model)}"
        asked = f"{counted(cost.questions, 'question')} to {one_line(cost.deployment)} ({model})"
        say(f"  {number} {one_line(variant.label)}: {asked}, at most {cost.tokens_at_most:,} tokens: {money}")
    free = f" {counted(answered, 'question')} {'is' if answered == 1 else 'are'} answered already." if answered else ""
    say(f"All together: {_all_together(costs)}.{free}")
    for deployment in unpriced:
        say(
            f"  For the price, give the model behind '{one_line(deployment)}': --model {one_line(deployment)}=NAME.",
            "dim",
        )


def _all_together(costs: Sequence[Cost]) -> str:
    priced = [cost for cost in costs if cost.estimate.money is not None and cost.at_most is not None]
    tokens = sum(cost.tokens_at_most for cost in costs)
    known = Range(
        sum(cost.estimate.money.low for cost in priced if cost.estimate.money),
        sum(cost.estimate.money.high for cost in priced if cost.estimate.money),
    )
    questions = counted(sum(cost.questions for cost in costs), "question")
    if not priced:
        return f"{questions}, at most {tokens:,} tokens"
    beside = "" if len(priced) == len(costs) else ", and what has no known price"
    at_most = sum(cost.at_most or 0 for cost in priced)
    return f"{questions}, at most {tokens:,} tokens: {said(known)}, at most {_dollars(at_most)}{beside}"


def _dollars(amount: float) -> str:
    return f"{amount:,.{2 if amount >= 1 else 4}f} {CURRENCY}"


def cost_json(costs: Sequence[Cost]) -> dict[str, object]:
    """The cost, for programs."""
    moneys = [cost.estimate.money for cost in costs]
    known = [money for money in moneys if money is not None]
    return {
        "questions": sum(cost.questions for cost in costs),
        "tokens_at_most": sum(cost.tokens_at_most for cost in costs),
        "estimated_usd": [round(sum(money.low for money in known), 6), round(sum(money.high for money in known), 6)]
        if len(known) == len(moneys)
        else None,
        "usd_at_most": round(sum(cost.at_most or 0 for cost in costs), 6)
        if all(cost.at_most is not None for cost in costs)
        else None,
    }
