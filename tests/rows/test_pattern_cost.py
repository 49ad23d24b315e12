"""How large patterns become when their repeats are written out."""

import time

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.schema_cost import MOST, pattern_cost, patterns_cost


@pytest.mark.parametrize(
    ("pattern", "states", "nested"),
    [
        ("", 0, 0),
        ("abc", 3, 0),
        ("^[a-z]{2,63}$", 65, 0),
        (r"\d{4}-\d{2}", 7, 0),
        (r"\p{L}{3}", 3, 0),
        ("(ab){3}", 6, 0),
        ("(?:ab|c){3}", 9, 0),
        ("(a{0,200}){0,200}", 40_000, 40_000),
        ("(a{0,200}){0,200}{0,50}", 2_000_000, 2_000_000),
        ("(a+b){10}", 20, 20),
        ("x(a{2}){3}y{5}", 12, 6),
        (r"[\]{}]{4}", 4, 0),
        ("a{,5}", 5, 0),
        ("((", 0, 0),
        ("a{999999999999}{999999999999}", MOST, MOST),
    ],
)
def test_states_of_a_pattern(pattern: str, states: int, nested: int) -> None:
    cost = pattern_cost(pattern)
    assert (cost.states, cost.nested) == (states, nested)


def test_every_pattern_of_a_schema_counts() -> None:
    schema: JsonObject = {
        "properties": {"a": {"pattern": "a{3}"}},
        "patternProperties": {"^b{4}$": {"items": [{"pattern": "c"}]}},
    }
    assert patterns_cost(schema).states == 3 + 6 + 1


@pytest.mark.parametrize("part", ["(", "a{1}", "[", "(a{2}", r"\p{", "[a-z]{1,2}"])
def test_long_patterns_are_counted_in_proportion_to_their_length(part: str) -> None:
    begun = time.thread_time()
    pattern_cost(part * 20_000)
    assert time.thread_time() - begun < 5  # where it grows with the square: minutes
