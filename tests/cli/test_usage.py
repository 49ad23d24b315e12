"""`tunesmith usage`, on a data directory without a server."""

import time
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith

from tunesmith.settings import Settings
from tunesmith.store import open_store
from tunesmith.store.accounts.usage import Account
from tunesmith.store.rows import Counts


@pytest.fixture
def used(tmp_path: Path) -> str:
    """A key that asked today and trained a month ago; its id."""
    store = open_store(Settings(data_dir=tmp_path / "data"))
    key = store.keys.create("laptop")[1].id
    minute = int(time.time()) // 60 * 60
    store.usage.add(
        {
            Account(minute, "default", key, "base"): Counts(1000, 2_000_000, 500, 1_000_000),
            Account(minute - 40 * 86_400, "default", key, "base"): Counts(trained_tokens=6810),
        },
        {},
    )
    store.close()
    return key


def test_table_has_names_tokens_and_a_price(tunesmith: Tunesmith, used: str) -> None:
    ran = tunesmith("usage")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if "laptop" in line)
    # 2,000,000 x $3 + 1,000,000 x $6, a million
    assert line.split() == ["default", "laptop", "base", "1,000", "2,000,000", "500", "1,000,000", "0", "$12.00"]
    assert "gpt-3.5-turbo-0125 models (OpenAI, 2026-11-29)" in ran.err


def test_cached_tokens_cost_what_cached_tokens_cost(tunesmith: Tunesmith, used: str) -> None:
    rows = tunesmith("usage", "--price", "gpt-4o-mini", "--json").json
    assert isinstance(rows, list)
    (row,) = rows
    assert row["cost_at_openai_usd"] == pytest.approx((1_999_500 * 0.30 + 500 * 0.15 + 1_000_000 * 1.20) / 1e6)


def test_price_that_is_not_known_is_not_nothing(tunesmith: Tunesmith, used: str) -> None:
    """o4-mini is billed by the hour of training: what 6,810 tokens cost is not known."""
    ran = tunesmith("usage", "--days", "60", "--by", "", "--price", "o4-mini")
    assert "not known" in ran.out
    rows = tunesmith("usage", "--days", "60", "--by", "", "--price", "o4-mini", "--json").json
    assert isinstance(rows, list)
    (row,) = rows
    assert row["cost_at_openai_usd"] is None


def test_own_prices_come_first(tunesmith: Tunesmith, used: str, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"models": {"gpt-3.5-turbo": {"input": 10, "output": 20}}}')
    assert "$40.00" in tunesmith("usage", "--price-file", own).out


def test_longer_ago_by_day_with_a_total(tunesmith: Tunesmith, used: str) -> None:
    ran = tunesmith("usage", "--days", "60", "--by", "day")
    assert ran.code == 0
    assert ran.out.count("\n") == 4
    assert "6,810" in ran.out.splitlines()[-1]
    rows = tunesmith("usage", "--days", "60", "--by", "key", "--price", "babbage-002@2023-10", "--json").json
    assert isinstance(rows, list)
    (row,) = rows
    assert (row["key"], row["trained_tokens"], row["requests"]) == (used, 6810, 1000)
    assert row["cost_at_openai_usd"] == pytest.approx(3000 * 0.0016 + 6.81 * 0.0004)


def test_nothing_used_is_said(tunesmith: Tunesmith) -> None:
    ran = tunesmith("usage")
    assert ran.code == 0
    assert "Nothing was asked" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"), [(("--by", "colour"), "day, project, key, model"), (("--price", "gpt-9"), "gpt-3.5-turbo")]
)
def test_wrong_option_says_how_to_fix_it(tunesmith: Tunesmith, arguments: tuple[str, str], said: str) -> None:
    ran = tunesmith("usage", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_columns_come_in_one_order_whatever_was_asked(tunesmith: Tunesmith, used: str) -> None:
    header = tunesmith("usage", "--by", "model, project,model").out.splitlines()[0].split()
    assert header[:2] == ["project", "model"]
    assert header[2:4] == ["requests", "prompt"]


def test_key_that_is_gone_keeps_its_id(tunesmith: Tunesmith, tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    minute = int(time.time()) // 60 * 60
    store.usage.add({Account(minute, "default", "key_gone", "base"): Counts(7)}, {})
    store.close()
    line = tunesmith("usage", "--by", "key").out.splitlines()[1]
    assert line.split()[:2] == ["key_gone", "7"]


def test_sum_of_everything_has_one_line(tunesmith: Tunesmith, used: str) -> None:
    lines = tunesmith("usage", "--days", "60", "--by", "").out.splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["1,000", "2,000,000", "500", "1,000,000", "6,810", "$12.05"]


def test_name_with_brackets_is_shown_as_it_is(tunesmith: Tunesmith, tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    key = store.keys.create("[/b] laptop")[1].id
    store.usage.add({Account(int(time.time()) // 60 * 60, "default", key, "base"): Counts(7)}, {})
    store.close()
    ran = tunesmith("usage")
    assert ran.code == 0
    assert "[/b] laptop" in ran.out


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_long_names_stay_whole_and_costs_have_equal_digits(
    tunesmith: Tunesmith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    name = "ft:smollm2-135m-instruct:personal:weather-jokes:8Qm2RfT1"
    store = open_store(Settings(data_dir=tmp_path / "data"))
    key = store.keys.create("laptop")[1].id
    minute = int(time.time()) // 60 * 60
    large, small = Counts(1, 2_000_000, 0, 1), Counts(1, 1_000, 0, 0)
    store.usage.add({Account(minute, "default", key, name): large, Account(minute, "default", key, "b"): small}, {})
    store.close()
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = tunesmith("usage").out
    assert name in shown
    costs = [word for word in shown.split() if word.startswith("$")]
    assert costs == ["$0.003", "$6.000", "$6.003"]
