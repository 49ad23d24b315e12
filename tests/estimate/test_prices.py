"""Prices: what the tables say, by which names they are found, and what tokens cost."""

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.prices import (
    OPENAI,
    Price,
    PriceTable,
    answer_cost,
    dollar_column,
    dollars,
    price_of,
    require_price,
    training_cost,
)

# The published table of 2026-11-29, dollars a million: training, input, cached input, output, batch input and output.
PUBLISHED = {
    "gpt-4.1-2025-04-14": (25.00, 3.00, 0.75, 12.00, 1.50, 6.00),
    "gpt-4.1-mini-2025-04-14": (5.00, 0.80, 0.20, 3.20, 0.40, 1.60),
    "gpt-4.1-nano-2025-04-14": (1.50, 0.20, 0.05, 0.80, 0.10, 0.40),
    "gpt-4o-2024-08-06": (25.00, 3.75, 1.875, 15.00, None, None),
    "gpt-4o-mini-2024-07-18": (3.00, 0.30, 0.15, 1.20, 0.15, 0.60),
    "gpt-3.5-turbo-0125": (8.00, 3.00, None, 6.00, 1.50, 3.00),
    "gpt-3.5-turbo-1106": (8.00, 3.00, None, 6.00, 1.50, 3.00),
    "gpt-3.5-turbo-0613": (8.00, 3.00, None, 6.00, 1.50, 3.00),
    "davinci-002": (6.00, 12.00, None, 12.00, 6.00, 6.00),
    "babbage-002": (0.40, 1.60, None, 1.60, 0.80, None),
    "o4-mini-2025-04-16": (None, 4.00, 1.00, 16.00, 2.00, 8.00),
}

BASES = {  # input and output of the models before they are tuned
    "gpt-4.1-2025-04-14": (2.00, 8.00),
    "gpt-4.1-mini-2025-04-14": (0.40, 1.60),
    "gpt-4.1-nano-2025-04-14": (0.10, 0.40),
    "gpt-4o-2024-08-06": (2.50, 10.00),
    "gpt-4o-mini-2024-07-18": (0.15, 0.60),
    "gpt-3.5-turbo-0125": (0.50, 1.50),
    "gpt-3.5-turbo-1106": (1.00, 2.00),
    "gpt-3.5-turbo-0613": None,
    "davinci-002": (2.00, 2.00),
    "babbage-002": (0.40, 0.40),
    "o4-mini-2025-04-16": (1.10, 4.40),
}


@pytest.mark.parametrize("model", BASES)
def test_table_has_the_price_of_each_base(model: str) -> None:
    base = require_price(model).base()
    assert (base and (base.input, base.output)) == BASES[model]
    assert base is None or base.table == "OpenAI, 2026-11-29"


@pytest.mark.parametrize("model", PUBLISHED)
def test_table_has_each_published_price(model: str) -> None:
    price = require_price(model)
    amounts = price.training, price.input, price.cached_input, price.output, price.batch_input, price.batch_output
    assert amounts == PUBLISHED[model]
    assert price.table == "OpenAI, 2026-11-29"


def test_table_has_nothing_else_and_reinforcement_by_the_hour() -> None:
    assert {price.model for price in OPENAI.prices} == set(PUBLISHED)
    assert {price.model: price.training_hour for price in OPENAI.prices if price.training_hour is not None} == {
        "o4-mini-2025-04-16": 100.00
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
        ("o4-mini", "o4-mini-2025-04-16"),
        ("ft:gpt-4o-mini-2024-07-18:acme:jokes:Abc123", "gpt-4o-mini-2024-07-18"),
        ("ft:gpt-4.1-nano:acme::Abc123:ckpt-step-10", "gpt-4.1-nano-2025-04-14"),
        ("ft:babbage-002", "babbage-002"),
        (" gpt-4o ", "gpt-4o-2024-08-06"),
    ],
)
def test_names_without_date_and_tuned_names_find_their_price(name: str, found: str) -> None:
    assert require_price(name).model == found


@pytest.mark.parametrize(
    "name", ["gpt-9", "gpt-4o-2024-05-13", "gpt-4", "gpt", "", "ft:", "ft:smollm2-135m:acme::1", "gpt-4o@2019"]
)
def test_other_names_find_none_and_the_error_lists_the_known(name: str) -> None:
    assert price_of(name) is None
    with pytest.raises(InvalidRequest, match=r"Known are gpt-4\.1-2025-04-14, .*babbage-002.*--price-file"):
        require_price(name)


@pytest.mark.parametrize("name", ["gpt-3.5-turbo@2023", "gpt-3.5-turbo-0613@2023-10", "ft:gpt-3.5-turbo:acme::1@2023"])
def test_prices_of_2023_are_kept_under_their_date(name: str) -> None:
    price = require_price(name)
    assert (price.training, price.input, price.output, price.table) == (8.00, 12.00, 16.00, "OpenAI, 2023-10")


def test_own_table_comes_before_openais_and_is_found_without_date() -> None:
    own = PriceTable("ours", "", (Price("gpt-4o-mini", training=1.0), Price("llama-3-2026-01-01", input=2.0)))
    found = price_of("gpt-4o-mini", own)
    assert found is not None
    assert (found.training, found.table) == (1.0, "ours")
    assert price_of("gpt-4o-mini-2024-07-18", own) == found
    assert require_price("llama-3", own).input == 2.0
    assert require_price("gpt-4o", own).training == 25.0


def test_training_costs_its_tokens_or_is_not_known() -> None:
    assert training_cost(require_price("gpt-4o-mini"), 2_000_000) == 6.0
    assert training_cost(require_price("o4-mini"), 2_000_000) is None


@pytest.mark.parametrize(
    ("model", "cached", "batch", "cost"),
    [
        ("gpt-4.1", 0, False, 3.00 + 2 * 12.00),
        ("gpt-4.1", 400_000, False, 0.6 * 3.00 + 0.4 * 0.75 + 2 * 12.00),
        ("gpt-3.5-turbo", 400_000, False, 3.00 + 2 * 6.00),  # no price for cached tokens: the full one
        ("gpt-4.1", 400_000, True, 1.50 + 2 * 6.00),
        ("gpt-4o", 0, True, None),
        ("babbage-002", 0, True, None),
    ],
)
def test_answers_cost_their_tokens(model: str, cached: int, batch: bool, cost: float | None) -> None:
    found = answer_cost(require_price(model), 1_000_000, 2_000_000, cached_tokens=cached, batch=batch)
    assert found == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "not known"),
        (0.0, "$0"),
        (0.000001, "less than $0.00001"),
        (0.05448, "$0.05448"),
        (0.5, "$0.50"),
        (2.3, "$2.30"),
        (1234.5, "$1,234.50"),
    ],
)
def test_dollars_are_short_and_never_zero_for_something(amount: float | None, text: str) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("amounts", "texts"),
    [
        ([12.0, 0.5, None, 0.0], ["$12.00", "$0.50", "not known", "$0.00"]),
        ([1234.5, 0.00123], ["$1,234.500", "$0.001"]),
        ([0.0000001, 1.0], ["<$0.000001", "$1.000000"]),
        ([], []),
    ],
    ids=["cents", "small", "tiny", "none"],
)
def test_a_column_of_dollars_has_equal_digits(amounts: list[float | None], texts: list[str]) -> None:
    assert dollar_column(amounts) == texts
