"""Looks at files in the child process: bounded, and with a sentence when they fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.background.file_checks import FileChecks
from tunesmith.errors import InvalidRequest, NotFound, ServerFault, ServiceUnavailable
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.web.looks.ask import ESTIMATE, FIX, ROWS, looked


@pytest.fixture
def checks(store: Store, settings: Settings) -> Iterator[FileChecks]:
    checks = FileChecks(store, settings)
    yield checks
    checks.stop()


def seen(checks: FileChecks, function: str, values: JsonObject) -> JsonObject:
    return looked(checks, function, values, 0)


def test_rows_come_as_they_stand_in_the_file(checks: FileChecks, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt": "a", "completion": 1}\n\n{"prompt": \xff}\n')
    found = seen(
        checks, ROWS, {"path": str(file), "places": [[1, "completion"], [3, "column 12"], [9, ""]], "lines": [1]}
    )
    places: Any = found["places"]
    first, second, none = places
    assert (first["before"], first["mark"], first["after"]) == ('{"prompt": "a", "completion": ', "1", "}")
    assert second["mark"] == "\ufffd"
    assert none is None
    assert found["rows"] == {"1": [["prompt", "a"], ["completion", "1"]]}


def test_a_file_that_is_gone_is_told_so(checks: FileChecks, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="deleted meanwhile"):
        seen(checks, ROWS, {"path": str(tmp_path / "none"), "lines": [1]})


def test_a_look_that_takes_too_long_is_given_up(store: Store, settings: Settings, tmp_path: Path) -> None:
    hurried = FileChecks(store, settings.model_copy(update={"check_seconds": 0.001}))
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "a"}\n' * 50_000)
    with pytest.raises(ServerFault, match="setting check_seconds"):
        seen(hurried, FIX, {"path": str(tmp_path / "rows.jsonl")})


def test_a_fault_of_ours_shows_no_traceback(checks: FileChecks) -> None:
    with pytest.raises(ServerFault) as failure:
        seen(checks, "tunesmith.web.looks.rows:none", {})
    assert failure.value.message == "This could not be shown; the server's log has the details."


def test_a_refusal_keeps_its_field(checks: FileChecks, tmp_path: Path) -> None:
    prices = tmp_path / "prices.txt"
    with pytest.raises(InvalidRequest, match=r"neither \.json nor \.toml") as refusal:
        seen(checks, ESTIMATE, {"price_file": str(prices)})
    assert refusal.value.param == "price_file"


def test_what_cannot_be_fixed_says_why(checks: FileChecks, tmp_path: Path) -> None:
    file = tmp_path / "rows.bin"
    file.write_bytes(b"PAR1" + bytes(range(256)))
    found = seen(checks, FIX, {"path": str(file)})
    assert "Parquet" in str(found["refusal"])


def test_a_server_that_stops_looks_no_more(checks: FileChecks, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "a"}\n')
    checks.stop()
    with pytest.raises(ServiceUnavailable, match="busy"):
        seen(checks, FIX, {"path": str(tmp_path / "rows.jsonl")})
