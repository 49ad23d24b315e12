"""What a download shows: something within a second, and a change every two."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.cli.output import pull_progress
from tunesmith.cli.output.pull_progress import PullProgress
from tunesmith.cli.output.terminal import err


@pytest.fixture(autouse=True)
def fresh_console() -> Iterator[None]:
    err.cache_clear()
    yield
    err.cache_clear()


def test_lines_tell_bytes_and_seconds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with PullProgress("qwen") as progress:
        time.sleep(0.9)
        first = capfd.readouterr().err
        progress.started(tmp_path, 4_000_000)
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "weights").write_bytes(b"x" * 1_500_000)
        time.sleep(2.1)
    assert first == "Fetching qwen …\n"
    assert capfd.readouterr().err.startswith("Fetching qwen, 1.5 MB of 4.0 MB, 2s …\n")


def test_a_conversion_is_called_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with PullProgress("qwen") as progress:
        progress.started(tmp_path, 4_000_000, "Converting")
        (tmp_path / "weights").write_bytes(b"x" * 1_500_000)
        time.sleep(0.9)
    assert capfd.readouterr().err == "Converting qwen, 1.5 MB of 4.0 MB …\n"


def test_lines_come_at_least_every_two_seconds() -> None:
    assert pull_progress.FIRST_SECONDS < 1
    assert pull_progress.SECONDS <= 2


def test_what_is_there_already_takes_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    with PullProgress("qwen"):
        pass
    assert capfd.readouterr().err == ""
