"""Looks at files in the child process: bounded, and with a sentence when they fail."""

import asyncio
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest, NotFound, ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.web.looks.ask import ESTIMATE, FIX, ROWS, look


def seen(settings: Settings, function: str, values: JsonObject) -> JsonObject:
    return asyncio.run(look(settings, function, values, 0))


def test_rows_come_as_they_stand_in_the_file(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt": "a", "completion": 1}\n\n{"prompt": \xff}\n')
    found = seen(
        settings, ROWS, {"path": str(file), "places": [[1, "completion"], [3, "column 12"], [9, ""]], "lines": [1]}
    )
    first, second, none = found["places"]  # type: ignore[misc]
    assert (first["before"], first["mark"], first["after"]) == ('{"prompt": "a", "completion": ', "1", "}")
    assert second["mark"] == "\ufffd"
    assert none is None
    assert found["rows"] == {"1": [["prompt", "a"], ["completion", "1"]]}


def test_a_file_that_is_gone_is_told_so(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="deleted meanwhile"):
        seen(settings, ROWS, {"path": str(tmp_path / "none"), "lines": [1]})


def test_a_look_that_takes_too_long_is_given_up(settings: Settings, tmp_path: Path) -> None:
    hurried = settings.model_copy(update={"check_seconds": 0.001})
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "a"}\n' * 50_000)
    with pytest.raises(ServerFault, match="setting check_seconds"):
        seen(hurried, FIX, {"path": str(tmp_path / "rows.jsonl")})


def test_a_fault_of_ours_shows_no_traceback(settings: Settings) -> None:
    with pytest.raises(ServerFault) as failure:
        seen(settings, "tunesmith.web.looks.rows:none", {})
    assert failure.value.message == "This could not be shown; the server's log has the details."


def test_a_refusal_keeps_its_field(settings: Settings, tmp_path: Path) -> None:
    prices = tmp_path / "prices.txt"
    with pytest.raises(InvalidRequest, match=r"neither \.json nor \.toml") as refusal:
        seen(settings, ESTIMATE, {"price_file": str(prices)})
    assert refusal.value.param == "price_file"


def test_what_cannot_be_fixed_says_why(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "rows.bin"
    file.write_bytes(b"PAR1" + bytes(range(256)))
    found = seen(settings, FIX, {"path": str(file)})
    assert "Parquet" in str(found["refusal"])
