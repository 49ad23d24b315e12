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
    # 2,000,000 x $0.012 + 1,000,000 x $0.016, per 1,000
    assert line.split() == ["default", "laptop", "base", "1,000", "2,000,000", "500", "1,000,000", "0", "$40.00"]
    assert "2023" in ran.err


def test_longer_ago_by_day_with_a_total(tunesmith: Tunesmith, used: str) -> None:
    ran = tunesmith("usage", "--days", "60", "--by", "day")
    assert ran.code == 0
    assert ran.out.count("\n") == 4
    assert "6,810" in ran.out.splitlines()[-1]
    rows = tunesmith("usage", "--days", "60", "--by", "key", "--price", "babbage-002", "--json").json
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
    assert ran.code == 1
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
    assert lines[1].split() == ["1,000", "2,000,000", "500", "1,000,000", "6,810", "$40.05"]


def test_name_with_brackets_is_shown_as_it_is(tunesmith: Tunesmith, tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    key = store.keys.create("[/b] laptop")[1].id
    store.usage.add({Account(int(time.time()) // 60 * 60, "default", key, "base"): Counts(7)}, {})
    store.close()
    ran = tunesmith("usage")
    assert ran.code == 0
    assert "[/b] laptop" in ran.out
