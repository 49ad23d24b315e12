"""Price tables: OpenAI's of autumn 2023 ships as a reference.

A user's own hardware costs by the hour.
"""

from dataclasses import dataclass

from tunesmith.tokens import encoding_for


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per 1,000 tokens.

    `plain_*` is what the untuned model costs; None where none was sold.
    """

    model: str
    training: float
    input: float
    output: float
    plain_input: float | None = None
    plain_output: float | None = None
    table: str = "OpenAI, 2023-10"

    @property
    def encoding(self) -> str:
        """The encoding in which the tokens are counted."""
        return encoding_for(self.model)


OPENAI_2023: dict[str, Price] = {
    price.model: price
    for price in (
        Price("gpt-3.5-turbo", 0.008, 0.012, 0.016, plain_input=0.0015, plain_output=0.002),
        Price("davinci-002", 0.006, 0.012, 0.012, plain_input=0.002, plain_output=0.002),
        Price("babbage-002", 0.0004, 0.0016, 0.0016, plain_input=0.0004, plain_output=0.0004),
    )
}
DEFAULT_PRICE = OPENAI_2023["gpt-3.5-turbo"]


def price_of(model: str) -> Price | None:
    """The reference price of a model.

    Its name may be a dated one (`gpt-3.5-turbo-0613`).
    """
    for name, price in OPENAI_2023.items():
        if model == name or model.startswith(f"{name}-"):
            return price
    return None


def dollars(amount: float) -> str:
    """An amount with cents, or more digits for small sums.

    For instance `$0.05448` and `$2.30`.
    """
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.5f}".rstrip("0").rstrip(".")
