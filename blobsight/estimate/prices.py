"""The list prices of models, from the package genai-prices. No network."""

from collections.abc import Callable
from decimal import Decimal

CURRENCY = "USD"

type Price = Callable[[float, float], Decimal]
"""Price of one request by its input and output tokens: some models cost more above a certain length."""


def price_of(model: str) -> Price | None:
    """The price of a request to `model`, in US dollars; None if the package does not know the model.

    Azure charges OpenAI's list prices for global standard deployments, and the package gives them for it. Regional and
    data-zone deployments cost more, discounts and batches less.
    """
    # Imported here because it reads a thousand models: 140 ms that other commands don't need.
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    def price(input_tokens: float, output_tokens: float) -> Decimal:
        usage = Usage(input_tokens=round(input_tokens), output_tokens=round(output_tokens))
        return calc_price(usage, model, provider_id="azure").total_price

    try:
        price(1, 1)
    except LookupError:
        return None
    return price
