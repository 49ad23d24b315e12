"""The name that people give a model: kept beside its weights, and nowhere else."""

from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.export.cards.display_name import FILE, read_display_name, write_display_name


def test_a_name_is_given_changed_and_taken_away(tmp_path: Path) -> None:
    assert read_display_name(tmp_path, "ft:a") is None
    assert write_display_name(tmp_path, "ft:a", "  Weather \t desk 天气 ") == "Weather desk 天气"
    write_display_name(tmp_path, "ft:b", "Other")
    assert write_display_name(tmp_path, "ft:a", "Weather") == "Weather"
    assert (read_display_name(tmp_path, "ft:a"), read_display_name(tmp_path, "ft:b")) == ("Weather", "Other")
    assert write_display_name(tmp_path, "ft:a", " ") is None
    assert (read_display_name(tmp_path, "ft:a"), read_display_name(tmp_path, "ft:b")) == (None, "Other")


@pytest.mark.parametrize("text", ["x" * 81, "a\x00b", "a\u202eb", "\ud800"], ids=["long", "nul", "reversed", "half"])
def test_names_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRequest, match="The name has"):
        write_display_name(tmp_path, "ft:a", text)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_file_is_no_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read_display_name(tmp_path, "ft:a") is None
    assert write_display_name(tmp_path, "ft:a", "Weather") == "Weather"
