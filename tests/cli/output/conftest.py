"""What the output functions print, in a terminal of any width, with colours or without."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from rich.cells import cell_len
from tests.cli.conftest import JOKES

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.file_report import Report
from tunesmith.cli.bases import LocalBase, local_base
from tunesmith.cli.output import terminal
from tunesmith.settings import Settings


class Printed(Protocol):
    def __call__(self, width: int | None, function: Callable[..., object], *values: object) -> str: ...


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Printed]:
    """`printed(40, print_report, …)`: what appears on stdout at 40 columns; None: on a pipe without COLUMNS."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def call(width: int | None, function: Callable[..., object], *values: object) -> str:
        monkeypatch.delenv("COLUMNS", raising=False)
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
        terminal.out.cache_clear()
        terminal.err.cache_clear()
        capfd.readouterr()
        function(*values)
        return capfd.readouterr().out

    yield call
    terminal.out.cache_clear()
    terminal.err.cache_clear()


@pytest.fixture(scope="session")
def local(base_dir: Path) -> LocalBase:
    """The default base, with its renderer."""
    return local_base(None, Settings())


@pytest.fixture(scope="session")
def absent(local: LocalBase) -> LocalBase:
    """The same base on a machine without its weights."""
    return LocalBase(local.base, None, None, local.max_tokens)


@pytest.fixture(scope="session")
def checked(local: LocalBase) -> Report:
    """The demo's rows, checked."""
    return check_file(JOKES, CheckOptions(renderer=local.renderer, max_tokens=local.max_tokens))


def widest(text: str) -> int:
    """Columns that the longest line takes."""
    return max((cell_len(line) for line in text.splitlines()), default=0)


def words(text: str) -> str:
    """The text without its line breaks and columns."""
    return " ".join(text.split())
