"""The token tree holds every row, each distinct prefix once, and micro-batches keep to their budget."""

from hypothesis import given
from hypothesis import strategies as st
from tests.train.conftest import row

from tunesmith.train.core.packing import Packed, TokenRow, added_tokens, pack, split

token_rows = st.lists(
    st.lists(st.integers(0, 2), min_size=2, max_size=12).map(lambda ids: TokenRow(tuple(ids), (1.0,) * len(ids))),
    min_size=1,
    max_size=8,
)


def ancestors(packed: Packed, position: int) -> list[int]:
    """The packed positions a token sees, its own last."""
    number = next(n for n, node in enumerate(packed.nodes) if node.start <= position < node.stop)
    seen = list(range(packed.nodes[number].start, position + 1))
    while (number := packed.nodes[number].parent) >= 0:
        seen = [*range(packed.nodes[number].start, packed.nodes[number].stop), *seen]
    return seen


def test_pack_stores_a_common_prefix_once() -> None:
    packed = pack([row(1, 2, 3, 4), row(1, 2, 3, 5, 6)], min_shared=1)
    assert packed.ids == [1, 2, 3, 4, 5, 6]
    assert packed.positions == [0, 1, 2, 3, 3, 4]
    assert [(node.start, node.stop, node.end, node.parent) for node in packed.nodes] == [
        (0, 3, 6, -1),
        (3, 4, 4, 0),
        (4, 6, 6, 0),
    ]


def test_pack_shares_at_every_depth() -> None:
    packed = pack([row(1, 2, 7), row(1, 2, 8), row(1, 3, 9), row(4, 5)], min_shared=1)
    assert packed.length == 1 + 1 + 2 + 2 + 2


def test_pack_leaves_prefixes_shorter_than_the_minimum_apart() -> None:
    assert pack([row(1, 2, 3), row(1, 2, 4)], min_shared=3).length == 6


def test_pack_learns_the_same_row_twice_from_one_copy() -> None:
    packed = pack([row(1, 2, 3), row(1, 2, 3)], min_shared=1)
    assert packed.length == 3
    assert [(item.source, item.target, item.row) for item in packed.learned] == [(1, 3, 0), (1, 3, 1)]


def test_pack_predicts_different_tokens_from_one_branching_point() -> None:
    packed = pack([row(1, 2, 3), row(1, 2, 4)], min_shared=1)
    assert [(item.source, item.target) for item in packed.learned] == [(1, 3), (1, 4)]


@given(token_rows, st.integers(1, 4))
def test_every_learned_token_sees_exactly_its_own_row(rows: list[TokenRow], min_shared: int) -> None:
    packed = pack(rows, min_shared)
    found: dict[int, list[tuple[list[int], int]]] = {index: [] for index in range(len(rows))}
    for item in packed.learned:
        seen = ancestors(packed, item.source)
        assert [packed.positions[i] for i in seen] == list(range(len(seen)))
        found[item.row].append(([packed.ids[i] for i in seen], item.target))
    for index, one in enumerate(rows):
        assert found[index] == [(list(one.ids[:i]), one.ids[i]) for i in range(1, len(one.ids))]


@given(token_rows, st.integers(1, 40))
def test_split_keeps_to_the_budget_and_loses_no_example(rows: list[TokenRow], budget: int) -> None:
    examples = [[one] for one in rows]
    parts = split(examples, budget)
    assert sorted(index for part in parts for index in part) == list(range(len(rows)))
    for part in parts:
        assert len(part) == 1 or pack([rows[index] for index in part], min_shared=1).length <= budget


@given(token_rows)
def test_added_tokens_counts_what_a_tree_of_sorted_rows_holds(rows: list[TokenRow]) -> None:
    ordered = sorted(rows, key=lambda one: one.ids)
    assert added_tokens((), ordered) == pack(rows, min_shared=1).length


def test_split_ends_early_where_nothing_is_shared_and_not_within_a_long_prefix() -> None:
    apart = [[row(*range(start, start + 10))] for start in range(0, 100, 10)]
    assert [len(part) for part in split(apart, budget=1000, enough=30)] == [3, 3, 3, 1]
    prompt = tuple(range(50))
    together = [[row(*prompt, 100 + n, 200)] for n in range(20)]
    assert [len(part) for part in split(together, budget=1000, enough=30)] == [20]
