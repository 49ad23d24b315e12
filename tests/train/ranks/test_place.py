"""The place of a rank is read from torchrun's variables, and what is wrong with them is said."""

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.train.ranks.place import Place

GIVEN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
MEETING = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


def test_torchruns_variables_are_read() -> None:
    assert Place.of(GIVEN | MEETING) == Place(3, 4, 1, 2, "10.0.0.1", 29500)


def test_without_them_a_process_is_alone() -> None:
    assert Place.of({}) == Place.of({"WORLD_SIZE": "1"}) == Place()
    assert Place().leads


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RANK", "4", "RANK is '4'; with several ranks it has to be a number from 0 to 3"),
        ("RANK", "-1", "RANK is '-1'"),
        ("WORLD_SIZE", "two", "WORLD_SIZE is 'two'"),
        ("WORLD_SIZE", "0", "WORLD_SIZE is '0'"),
        ("MASTER_PORT", "65536", "MASTER_PORT is '65536'; with several ranks it has to be a number from 1 to 65535"),
        ("MASTER_PORT", "²", "MASTER_PORT is '²'"),
        ("LOCAL_RANK", "2", "LOCAL_RANK is '2'"),
        ("LOCAL_WORLD_SIZE", "5", "LOCAL_WORLD_SIZE is '5'"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match="torchrun --nproc-per-node") as caught:
        Place.of({**GIVEN, **MEETING, name: value})
    assert said in caught.value.message
    assert caught.value.param == name


@pytest.mark.parametrize("name", ["RANK", "MASTER_PORT"])
def test_a_missing_variable_is_named(name: str) -> None:
    given = {key: value for key, value in (GIVEN | MEETING).items() if key != name}
    with pytest.raises(InvalidRequest, match=f"{name} is not set"):
        Place.of(given)
