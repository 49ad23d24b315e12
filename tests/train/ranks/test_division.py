"""The rows of a step among ranks: every row once, equal shares, prefixes kept together where that pays."""

import time
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tests.train.conftest import row

from tunesmith.train.core.packing import TokenRow, added_tokens, pack
from tunesmith.train.ranks.division import divide

ROWS = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=30).map(lambda ids: (row(*ids),)), max_size=12)


def tokens(units: Sequence[tuple[TokenRow, ...]], share: list[int]) -> int:
    """What the share's token tree has, if every common prefix is shared."""
    return pack([units[index][0] for index in share], min_shared=1).length


@given(ROWS, st.integers(1, 5))
def test_every_row_is_taken_once_and_no_rank_has_more_than_one(units: list[tuple[TokenRow, ...]], ranks: int) -> None:
    shares = divide(units, ranks)
    assert len(shares) == ranks
    assert sorted(index for share in shares for index in share) == list(range(len(units)))
    assert shares == divide(units, ranks)
    heaviest = max(tokens(units, share) for share in shares)
    assert heaviest <= tokens(units, list(range(len(units))))
    if units and ranks >= len(units):
        assert heaviest == max(added_tokens((), unit) for unit in units)


def test_rows_of_different_lengths_are_dealt_out_evenly() -> None:
    units = [(row(*[first] * length),) for first, length in enumerate((100, 100, 500, 500, 300, 300))]
    assert [tokens(units, share) for share in divide(units, 2)] == [900, 900]


def test_rows_of_one_prompt_stay_with_one_rank() -> None:
    prompts = [tuple(range(100)), tuple(range(100, 200))]
    units = [(row(*prompts[n % 2], n, n + 1, n + 2),) for n in range(8)]
    assert [{index % 2 for index in share} for share in divide(units, 2)] == [{0}, {1}]


def test_a_prompt_that_all_rows_have_is_computed_by_both_and_the_rest_halved() -> None:
    units = [(row(*range(400), 400 + n, *[n] * 60),) for n in range(8)]
    assert [tokens(units, share) for share in divide(units, 2)] == [400 + 4 * 61] * 2


def test_a_large_step_is_divided_in_no_time() -> None:
    units = [(row(*range(50), n, *[n] * (n % 97)),) for n in range(256)]
    began = time.process_time()
    divide(units, 8)
    assert time.process_time() - began < 0.5
