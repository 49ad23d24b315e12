"""Pages with lists ask the database as often for many rows as for a few."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.statements import statements
from tests.web.work import checkpoint, finish, running_job

from tunesmith.settings import Settings
from tunesmith.store import Store

PAGES = ("/", "/ui/jobs", "/ui/files", "/ui/models", "/ui/evaluations")


@pytest.fixture
def jobs(settings: Settings) -> Path:
    return settings.paths.jobs


def work(store: Store, jobs: Path, count: int) -> None:
    """So many jobs that have succeeded, each with a file, two kept checkpoints and a model."""
    for _ in range(count):
        lease = running_job(store)
        for step in range(1, 3):
            checkpoint(store, lease, jobs, step)
        finish(store, lease, jobs / lease.job_id / "final")


def asked(store: Store, browser: TestClient, page: str) -> int:
    """How many statements the page takes, once what is kept from one look to the next is there."""
    assert browser.get(page).status_code == 200
    with statements(store) as heard:
        browser.get(page)
    assert not heard.repeated()
    return len(heard.all)


def test_more_rows_take_no_more_statements(store: Store, jobs: Path, browser: TestClient) -> None:
    work(store, jobs, 1)
    few = {page: asked(store, browser, page) for page in PAGES}
    work(store, jobs, 4)
    assert {page: asked(store, browser, page) for page in PAGES} == few
