"""How the processes of `make test` share the tests (pytest-xdist). A plain `pytest` runs them one after the other.

They are more than CI has processors, as tests also wait: for clocks, leases and processes.

Tests of one file run in one process, and so do all files of a directory that share a server. pytest-xdist has its own
marks for groups, which have no effect under pytest 9.2.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent

# The longest first, so that no process is left alone with a long file at the end; what is not named comes last.
ORDER = (
    "cli",
    "acceptance",
    "web",
    "train",
    "contract",
    "sdk",
    "fuzz",
    "worker",
    "check",
    "moderation",
    "api",
    "serve",
)
ONE_SERVER = ("cli", "contract", "fuzz", "web/browser")

if "PYTEST_XDIST_WORKER" in os.environ:  # with several threads each they would hinder each other
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for threads in ("OMP_NUM_THREADS", "TUNESMITH_TRAIN_THREADS", "TUNESMITH_SERVE_THREADS"):
        os.environ.setdefault(threads, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> "LoadScopeScheduling":
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return next((room for room in ONE_SERVER if path.startswith(f"tests/{room}/")), path)

    return ByServer(config, log)


def _turn(item: pytest.Item) -> int:
    room = item.path.relative_to(TESTS).parts[0]
    return ORDER.index(room) if room in ORDER else len(ORDER)
