"""The list prices of models, from the package genai-prices. No network."""

from collections.abc import Callable, Mapping
from decimal import Decimal

CURRENCY = "USD"
SHARES: Mapping[str, Decimal] = {"default": Decimal(1), "flex": Decimal("0.5"), "batch": Decimal("0.5")}
"""The price at each service tier, as a part of the list price. That of `priority` is not published as one.
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch"""

type Price = Callable[[float, float], Decimal]
"""Price of one request by its input and output tokens: some models cost more above a certain length."""


def price_of(model: str, tier: str = "default") -> Price | None:
    """The price of a request to `model` at a service tier, in US dollars; None if the price of either is not known.

    Azure charges OpenAI's list prices for global standard deployments, and the package gives them for it. Regional and
    data-zone deployments cost more, discounts less.
    """
    share = SHARES.get(tier)
    if share is None:
        return None
    # Imported here because it reads a thousand models: 140 ms that other commands don't need.
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    def price(input_tokens: float, output_tokens: float) -> Decimal:
        usage = Usage(input_tokens=round(input_tokens), output_tokens=round(output_tokens))
        return calc_price(usage, model, provider_id="azure").total_price * share

    try:
        price(1, 1)
    except LookupError:
        return None
    return price
