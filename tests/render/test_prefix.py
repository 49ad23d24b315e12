"""The common prefix of two rows of tokens."""

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.render.prefix import common_prefix

tokens = st.lists(st.integers(0, 1), max_size=9)


@given(tokens, tokens, st.sampled_from([list, tuple]))
def test_common_prefix_is_the_longest(one: list[int], other: list[int], kind: type) -> None:
    size = common_prefix(kind(one), kind(other))
    assert one[:size] == other[:size]
    assert size == min(len(one), len(other)) or one[size] != other[size]
    assert all(common_prefix(kind(one), kind(other), start) == size for start in range(size + 1))
