"""The bar of a large file: seen in a terminal only, whatever the file is called."""

import pytest
from tests.cli.output.conftest import Printed

from tunesmith.cli.output.reading_bar import BAR_BYTES, ReadingBar

NAMES = ("rows.jsonl", "rows {0} {task}.jsonl", "rows [red].jsonl", "rows:fire:.jsonl", "天津.jsonl")


def read(name: str, total: int) -> None:
    with ReadingBar(name) as progress:
        for done in range(0, total + 1, total // 4):
            progress(done, total)


@pytest.mark.parametrize("name", NAMES)
def test_large_file_has_a_bar_with_its_name(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    def run() -> None:
        read(name, BAR_BYTES * 2)
        said = capfd.readouterr().err
        assert f"reading {name}" in said
        assert "8.0/8.0 MB" in said

    assert printed(120, run) == ""


def test_small_file_and_no_terminal_have_none(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def quiet() -> None:
        read("rows.jsonl", BAR_BYTES * 2)
        assert capfd.readouterr().err == ""

    def small() -> None:
        read("rows.jsonl", BAR_BYTES)
        assert "reading" not in capfd.readouterr().err

    printed(120, quiet)
    monkeypatch.setenv("FORCE_COLOR", "1")
    printed(120, small)
