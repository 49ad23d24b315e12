"""What OpenAI charges for tuned models, in dated tables, and what tokens cost.

All prices are dollars for a million tokens. A price that no public source gives is None, and what follows from it is
"not known", never 0. A user's own prices come from a file (`price_file`).

Not covered: batches and cached input of models that are not tuned; regional and priority surcharges; model graders.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunesmith.errors import InvalidRequest
from tunesmith.tokens import encoding_for

if TYPE_CHECKING:
    from tunesmith.store.rows import Counts

MILLION = 1_000_000
DEFAULT_MODEL = "gpt-3.5-turbo"  # its encoding is the one in which `check` counts, too
_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")  # of gpt-4o-mini-2024-07-18, of gpt-3.5-turbo-0125


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a million tokens of a tuned model; None where no source gives it.

    `training_hour` is the price of an hour of reinforcement training, which is not billed by the token. `base_input`
    and `base_output` are those of the model before it is tuned.
    """

    model: str
    training: float | None = None
    input: float | None = None
    cached_input: float | None = None
    output: float | None = None
    batch_input: float | None = None
    batch_output: float | None = None
    training_hour: float | None = None
    table: str = ""
    base_input: float | None = None
    base_output: float | None = None

    def base(self) -> "Price | None":
        """The price of the model before it is tuned; None where it is not known."""
        if self.base_input is None or self.base_output is None:
            return None
        return Price(self.model, input=self.base_input, output=self.base_output, table=self.table)

    @property
    def encoding(self) -> str:
        """The encoding in which the tokens are counted."""
        return encoding_for(self.model)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices of one source and day; `date` is ISO's, whole or only year and month."""

    source: str
    date: str
    prices: tuple[Price, ...]

    @property
    def label(self) -> str:
        """The table's name in a line of output: `OpenAI, 2026-11-29`."""
        return f"{self.source}, {self.date}" if self.date else self.source

    def find(self, model: str) -> Price | None:
        """The price of a model by its name, which may lack the date.

        `gpt-4o-mini` finds `gpt-4o-mini-2024-07-18`. Another date than the listed one finds nothing.
        """
        found = next((price for price in self.prices if price.model == model), None)
        undated = next((price for price in self.prices if _undated(price.model) == model), None)
        own = next((price for price in self.prices if price.model == _undated(model)), None)
        chosen = found or undated or own
        return replace(chosen, table=self.label) if chosen else None


# Collected 2026-11-29. Training, gpt-4.1 family and o4-mini: copies of OpenAI's pricing page made after August 2025.
# Training, gpt-4o, gpt-4o-mini and gpt-3.5-turbo: public cost calculators that quote that page. Use of tuned models and
# of their bases: the price map of LiteLLM 1.110.2. Training of davinci-002 and babbage-002: quotations of 2023 to 2025,
# which no source contradicts.
OPENAI = PriceTable(
    "OpenAI",
    "2026-11-29",
    (
        Price("gpt-4.1-2025-04-14", 25.00, 3.00, 0.75, 12.00, 1.50, 6.00, base_input=2.00, base_output=8.00),
        Price("gpt-4.1-mini-2025-04-14", 5.00, 0.80, 0.20, 3.20, 0.40, 1.60, base_input=0.40, base_output=1.60),
        Price("gpt-4.1-nano-2025-04-14", 1.50, 0.20, 0.05, 0.80, 0.10, 0.40, base_input=0.10, base_output=0.40),
        Price("gpt-4o-2024-08-06", 25.00, 3.75, 1.875, 15.00, base_input=2.50, base_output=10.00),
        Price("gpt-4o-mini-2024-07-18", 3.00, 0.30, 0.15, 1.20, 0.15, 0.60, base_input=0.15, base_output=0.60),
        Price("gpt-3.5-turbo-0125", 8.00, 3.00, None, 6.00, 1.50, 3.00, base_input=0.50, base_output=1.50),
        Price("gpt-3.5-turbo-1106", 8.00, 3.00, None, 6.00, 1.50, 3.00, base_input=1.00, base_output=2.00),
        Price("gpt-3.5-turbo-0613", 8.00, 3.00, None, 6.00, 1.50, 3.00),
        Price("davinci-002", 6.00, 12.00, None, 12.00, 6.00, 6.00, base_input=2.00, base_output=2.00),
        Price("babbage-002", 0.40, 1.60, None, 1.60, 0.80, base_input=0.40, base_output=0.40),
        Price(
            *("o4-mini-2025-04-16", None, 4.00, 1.00, 16.00, 2.00, 8.00, 100.00),
            base_input=1.10,
            base_output=4.40,
        ),
    ),
)
OPENAI_2023 = PriceTable(
    "OpenAI",
    "2023-10",
    (
        Price("gpt-3.5-turbo-0613", 8.00, 12.00, None, 16.00),
        Price("davinci-002", 6.00, 12.00, None, 12.00),
        Price("babbage-002", 0.40, 1.60, None, 1.60),
    ),
)


def price_of(model: str, own: PriceTable | None = None) -> Price | None:
    """The price of a model: from the user's own table, else from OpenAI's newest.

    `model` is a full name, one without its date (`gpt-4o-mini`), a tuned model (`ft:gpt-4o-mini-2024-07-18:acme::1`),
    or any of them with the date of an older table (`gpt-3.5-turbo@2023`).
    """
    name, _, date = model.strip().partition("@")
    if name.startswith("ft:"):
        name = name.split(":")[1]
    mine = [] if own is None else [own]
    dated = [table for table in (*mine, OPENAI, OPENAI_2023) if table.date.startswith(date)]
    return _first(name, dated if date else [*mine, OPENAI])


def require_price(model: str, own: PriceTable | None = None) -> Price:
    """The price of a model; InvalidRequest with the known names if there is none."""
    price = price_of(model, own)
    if price is None:
        known = [price.model for table in ([own] if own else []) + [OPENAI] for price in table.prices]
        raise InvalidRequest(
            f"There is no price for {model!r}. Known are {', '.join(dict.fromkeys(known))}, each also without its "
            "date; @2023 after a name takes the prices of 2023. --price-file adds prices of your own.",
            param="price",
        )
    return price


def training_cost(price: Price, tokens: int) -> float | None:
    """Dollars for training on so many tokens, those of the file times the epochs.

    None where the price is not known or is not one by the token. Validation is free.
    """
    return None if price.training is None else tokens * price.training / MILLION


def answer_cost(
    price: Price, prompt_tokens: int, completion_tokens: int, *, cached_tokens: int = 0, batch: bool = False
) -> float | None:
    """Dollars for answers of a tuned model; None where a price is not known.

    `cached_tokens` are those of the prompt that were cached; without a price of their own they cost what others do.
    `batch` takes the prices of the Batch API, which knows no cached tokens.
    """
    into, out = (price.batch_input, price.batch_output) if batch else (price.input, price.output)
    if into is None or out is None:
        return None
    cached = into if batch or price.cached_input is None else price.cached_input
    fresh = prompt_tokens - cached_tokens
    return (fresh * into + cached_tokens * cached + completion_tokens * out) / MILLION


def usage_cost(price: Price, counts: "Counts") -> float | None:
    """Dollars for what was asked and trained; None where a price is not known."""
    asked = counts.prompt_tokens, counts.completion_tokens
    answers = answer_cost(price, *asked, cached_tokens=counts.cached_tokens) if any(asked) else 0.0
    training = training_cost(price, counts.trained_tokens) if counts.trained_tokens else 0.0
    return None if answers is None or training is None else answers + training


def dollars(amount: float | None) -> str:
    """An amount with cents, or more digits for small sums; None is "not known".

    For instance `$0.05448` and `$2.30`.
    """
    if amount is None:
        return "not known"
    if amount >= 1:
        return f"${amount:,.2f}"
    if 0 < amount < 0.00001:
        return "less than $0.00001"
    whole, _, part = f"{amount:.5f}".rstrip("0").partition(".")
    return f"${whole}.{part:0<2}" if part else f"${whole}"


def dollar_column(amounts: Sequence[float | None]) -> list[str]:
    """The amounts with equally many decimals.

    Two, or what the smallest of them needs, at most six.
    """
    small = [amount for amount in amounts if amount is not None and amount > 0]
    digits = next((digits for digits in range(2, 6) if all(amount * 10**digits >= 1 for amount in small)), 6)
    return ["not known" if amount is None else _money(amount, digits) for amount in amounts]


def _money(amount: float, digits: int) -> str:
    return f"${amount:,.{digits}f}" if amount == 0 or amount >= 10**-digits else f"<${10**-digits:.{digits}f}"


def _first(name: str, tables: Sequence[PriceTable]) -> Price | None:
    return next((price for table in tables if (price := table.find(name)) is not None), None)


def _undated(model: str) -> str:
    return _DATE.sub("", model)


DEFAULT_PRICE = require_price(DEFAULT_MODEL)
