"""A full disk is told to clients as such, in OpenAI's shape."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tunesmith.api.http import errors
from tunesmith.errors import DiskFull
from tunesmith.serve.local.fp16_check import Finding, write_finding
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(errno.ENOSPC, 507, "disk_full"), (errno.EDQUOT, 507, "disk_full"), (errno.EROFS, 503, "disk_read_only")],
)
def test_a_client_learns_that_the_disk_is_full(number: int, status: int, code: str) -> None:
    app = FastAPI()
    errors.install(app)

    @app.post("/v1/files")
    def upload() -> None:
        raise OSError(number, "as the system says")

    answer = TestClient(app).post("/v1/files")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "disk" in answer.json()["error"]["message"]


def test_a_database_without_room_is_a_full_disk(store: Store) -> None:
    with store.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    with pytest.raises(DiskFull, match="database is full"):
        _write_much(store, pages)


def _write_much(store: Store, pages: int) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.exec_driver_sql("CREATE TABLE large (content BLOB)")
        connection.exec_driver_sql("INSERT INTO large VALUES (zeroblob(10000000))")


def test_what_an_engine_would_keep_is_not_worth_an_answer(tmp_path: Path) -> None:
    (tmp_path / "serve").write_text("no directory: nothing can be written below it")
    write_finding(tmp_path / "serve" / "base.json", Finding(1.0, 0.0))
    assert [path.name for path in tmp_path.iterdir()] == ["serve"]
