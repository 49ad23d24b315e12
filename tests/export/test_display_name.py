"""The name that people give a model: in its row, and for older ones beside its weights."""

from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.export.cards.display_name import FILE, checked_display_name, display_name
from tunesmith.store import ModelRow


@pytest.fixture
def model(tmp_path: Path) -> ModelRow:
    return ModelRow("ft:a", "base", "ftjob-1", None, tmp_path, 1, "acme", "default")


def test_the_rows_name_is_shown_and_an_empty_one_is_none(model: ModelRow) -> None:
    assert display_name(model) is None
    assert display_name(replace(model, display="Weather desk")) == "Weather desk"
    assert display_name(replace(model, display="")) is None


def test_a_name_of_an_earlier_version_is_shown_until_another_is_given(model: ModelRow) -> None:
    (model.adapter_dir / FILE).write_text('{"ft:a": "Old", "ft:b": "Other"}')
    assert display_name(model) == "Old"
    assert display_name(replace(model, display="New")) == "New"
    assert display_name(replace(model, display="")) is None


def test_needless_spaces_are_left_out() -> None:
    assert checked_display_name("  Weather \t desk 天气 ") == "Weather desk 天气"


@pytest.mark.parametrize("text", ["x" * 81, "a\x00b", "a\u202eb", "\ud800"], ids=["long", "nul", "reversed", "half"])
def test_names_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="The name has"):
        checked_display_name(text)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_file_is_no_name(model: ModelRow, content: bytes) -> None:
    (model.adapter_dir / FILE).write_bytes(content)
    assert display_name(model) is None
