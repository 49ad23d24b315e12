"""What `make test` takes of long lists: as many cases as are said, others by another seed, each value if it can."""

import itertools

import pytest
from tests.samples import WHOLE, drawn

PAIRS: list[dict[str, object]] = [
    {"family": family, "talk": talk} for family, talk in itertools.product(range(9), "abcde")
]
tried: list[int] = []
tried_by_family: list[tuple[int, str]] = []


def test_as_many_are_drawn_as_are_wanted_and_others_by_another_seed() -> None:
    cases: list[dict[str, object]] = [{"number": number} for number in range(100)]
    draws = [drawn(cases, 20, str(seed)) for seed in range(40)]
    assert {len(draw) for draw in draws} == {20}
    assert drawn(cases, 20, "7") == draws[7] != draws[8]
    assert set().union(*draws) == set(range(100))  # in 40 days each one
    assert drawn(cases[:9], 20, "7") == set(range(9))


@pytest.mark.parametrize("seed", range(20))
def test_each_value_of_each_list_is_among_the_drawn(seed: int) -> None:
    cases = [PAIRS[place] for place in drawn(PAIRS, 14, str(seed))]
    assert len(cases) == 14
    assert {case["family"] for case in cases} == set(range(9))
    assert {case["talk"] for case in cases} == set("abcde")


@pytest.mark.drawn(3)
@pytest.mark.parametrize("number", range(10))
def test_a_marked_test_is_tried_with_the_drawn_cases(number: int) -> None:
    tried.append(number)


@pytest.mark.drawn(2, by="family")
@pytest.mark.parametrize("talk", "abc")
@pytest.mark.parametrize("family", range(5))
def test_of_a_drawn_value_all_cases_are_tried(family: int, talk: str) -> None:
    tried_by_family.append((family, talk))


def test_the_others_are_left_to_make_test_whole(request: pytest.FixtureRequest) -> None:
    here = [item for item in request.session.items if item.path == request.path]
    if len(here) > 1:  # not for this test alone
        assert len(tried) == (10 if WHOLE else 3)
        families = {family for family, _ in tried_by_family}
        assert len(families) == (5 if WHOLE else 2)
        assert sorted(tried_by_family) == sorted(itertools.product(families, "abc"))
