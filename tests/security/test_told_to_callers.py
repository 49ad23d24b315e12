"""What answers and logs tell: no place on the server's machine to who has no business there, and no forged line."""

import io
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import QueuePool
from starlette.testclient import TestClient
from tests.api.conftest import Refused
from tests.security.conftest import As
from tests.servers import wait_until

from tunesmith.api.app import create_app
from tunesmith.api.http.sse import EventStream
from tunesmith.errors import InvalidRequest, ServerFault, ServiceUnavailable
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Role, Store, open_store
from tunesmith.system.log import configure_log

WRONG: list[tuple[str, str, dict[str, object]]] = [
    ("GET", "/v1/models", {}),
    ("GET", "/v1/models/nobody", {}),
    ("GET", "/v1/files/file-000000000000000000000000", {}),
    ("GET", "/v1/files/file-000000000000000000000000/content", {}),
    ("GET", "/v1/files/..%2f..%2fapi-key/content", {}),
    ("GET", "/v1/files?limit=x", {}),
    ("GET", "/v1/fine_tuning/jobs/ftjob-1/events", {}),
    ("GET", "/v1/fine_tuning/jobs?metadata[a]=%00", {}),
    ("GET", "/v1/nowhere", {}),
    ("DELETE", "/v1/models/gpt-3.5-turbo", {}),
    ("POST", "/v1/files", {"content": b"x"}),
    ("POST", "/v1/fine_tuning/jobs", {"json": {"model": "broken"}}),
    ("POST", "/v1/chat/completions", {"content": b"{"}),
    ("POST", "/v1/chat/completions", {"json": {"model": "broken", "messages": [{"role": "user", "content": "x"}]}}),
    ("POST", "/v1/chat/completions", {"json": {"model": "no such", "messages": []}}),
    ("POST", "/v1/completions", {"json": {"model": "broken", "prompt": "x"}}),
    ("POST", "/v1/moderations", {"json": {"input": 3}}),
    ("POST", "/v1/fine_tuning/alpha/graders/validate", {"json": {"grader": {}}}),
    ("POST", "/openai/deployments/x/embeddings", {"json": {}}),
    ("GET", "/healthz", {}),
    ("PUT", "/healthz", {}),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a base whose directory is broken, in a place of the operator's."""
    broken = tmp_path / "somewhere" / "base"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text('{"model_type": "llama"}')
    return Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", bases={"broken": str(broken)})


@pytest.mark.parametrize("role", [None, "read-only", "member"])
def test_no_answer_names_a_path_of_this_machine(calling_as: As, settings: Settings, role: Role | None) -> None:
    client = calling_as(role)
    places = [str(settings.data_dir.parent), str(Path.home()) + "/"]
    statuses = set()
    for method, path, options in WRONG:
        answer = client.request(method, path, **options)  # type: ignore[arg-type]
        statuses.add(answer.status_code)
        assert [place for place in places if place in answer.text + str(answer.headers)] == [], (method, path)
        assert not path.startswith("/v1") or answer.status_code >= 400 or path == "/v1/models"
    assert 401 in statuses if role is None else {400, 404} <= statuses


def test_paths_are_named_to_owners_only(app: FastAPI, calling_as: As, settings: Settings) -> None:
    secret = settings.paths.root / "jobs" / "x"

    def fail() -> None:
        raise InvalidRequest(f"{secret} is broken.")

    app.add_api_route("/v1/failing", fail)
    assert calling_as("owner").get("/v1/failing").json()["error"]["message"] == f"{secret} is broken."
    assert calling_as("read-only").get("/v1/failing").json()["error"]["message"] == "DATA_DIR/jobs/x is broken."


def test_paths_are_named_to_owners_only_in_mid_stream_too(app: FastAPI, calling_as: As, settings: Settings) -> None:
    secret = settings.paths.root / "jobs" / "x"

    async def events() -> AsyncIterator[dict[str, object]]:
        yield {"text": "a"}
        raise ServerFault(f"{secret} is broken.")

    app.add_api_route("/v1/failing", lambda: EventStream(events(), lambda: None), response_model=None)
    assert f'"message":"{secret} is broken."' in calling_as("owner").get("/v1/failing").text
    assert '"message":"DATA_DIR/jobs/x is broken."' in calling_as("member").get("/v1/failing").text


def test_addresses_of_other_servers_are_named_to_owners_only(
    tmp_path: Path, store: Store, calling_as: As, app: FastAPI
) -> None:
    there = Settings(data_dir=tmp_path / "data", serve_remote={"big": ["http://gpu.internal:8000"]})
    app.state.parts = replace(app.state.parts, settings=there)

    def fail() -> None:
        raise ServiceUnavailable("The vLLM server at http://gpu.internal:8000 cannot be reached.")

    app.add_api_route("/v1/failing", fail)
    message = "The vLLM server at (of big) cannot be reached."
    assert calling_as("member").get("/v1/failing").json()["error"]["message"] == message
    assert "gpu.internal" in calling_as("owner").get("/v1/failing").text


def test_database_that_is_gone_is_a_503_that_names_no_host(
    tmp_path: Path, postgres_url: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Settings(data_dir=tmp_path / "pg", database_url=postgres_url)
    store = open_store(there)
    key = store.keys.create("owner")[0]
    gone = open_store(there)
    with TestClient(create_app(there, gone, Pool(there)), raise_server_exceptions=False) as client:
        used = gone.database.engine.pool
        assert isinstance(used, QueuePool)
        # What a thread of the application's start has in hand would not be closed.
        wait_until(lambda: used.checkedout() == 0, 20, "the end of what the application does at its start")
        gone.database.engine.dispose()
        monkeypatch.setattr(gone.database.engine.pool, "_creator", _no_connection)
        answers = [client.get("/healthz"), client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})]
        answers += [client.get("/v1/models", headers={"Authorization": "Bearer sk-wrong"})]
        for answer in answers:
            error = refused(answer, 503)
            assert (error["message"], error["type"]) == (
                "The database does not answer. Try again.",
                "service_unavailable_error",
            )
        assert answers[1].headers["retry-after"] == "1"
    store.close()
    gone.close()


def _no_connection(*_: object) -> None:
    raise psycopg.OperationalError('connection to server at "db.internal" (10.0.0.7), port 5432 failed')


def test_database_in_sql_ascii_is_read_as_utf8(tmp_path: Path, postgres_socket: Path) -> None:
    with psycopg.connect(host=str(postgres_socket), user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    url = f"postgresql://postgres@/plain?host={postgres_socket}"
    store = open_store(Settings(data_dir=tmp_path / "ascii", database_url=url))
    made = store.projects.create("Zürich 日本")
    found = store.projects.get(made.id)
    store.close()
    assert found is not None
    assert found.name == "Zürich 日本"


def test_reason_is_kept_for_commands() -> None:
    error = ServiceUnavailable("The database does not answer.", detail="db.internal:5432 refused")
    assert str(error) == "The database does not answer. (db.internal:5432 refused)"
    assert "db.internal" not in str(error.envelope())


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("/v1/\x1b[2J\x1b]0;owned\x07", r"/v1/\x1b[2J\x1b]0;owned\x07"),
        ("/v1/x\n2026-01-01 00:00:00 [info] forged", r"/v1/x\n2026-01-01 00:00:00 [info] forged"),
        ("/v1/\r\x9b31m", r"/v1/\r\x9b31m"),
        ("/v1/\u2028\u202egnp", r"/v1/\u2028\u202egnp"),
        ("/v1/münchen 日本", "/v1/münchen 日本"),
    ],
    ids=["escape", "newline", "c1", "directions", "words"],
)
def test_log_shows_control_characters_and_obeys_none(monkeypatch: pytest.MonkeyPatch, sent: str, shown: str) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_log(10)
    log = structlog.get_logger("test")
    log.info("request", method="GET", path=sent, status=404, ms=1)
    log.warning(sent, path=sent, other=[sent])
    try:
        raise ValueError(sent)
    except ValueError:
        log.exception("failed")
    lines = written.getvalue().split("\n")
    assert shown in lines[0]
    assert [line for line in lines if not line.startswith(("    ", "20"))] == [""]
    assert len([line for line in lines if line.startswith("20")]) == 3
    assert all(character.isprintable() for line in lines for character in line)


def test_log_of_a_server_has_a_line_for_each_request_whatever_its_path(
    calling_as: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_log(10)
    calling_as(None).get("/v1/models%0a%1b[31mforged")
    lines = [line for line in written.getvalue().splitlines() if "[audit]" not in line]
    assert [line for line in lines if "forged" in line and r"/v1/models\n\x1b[31mforged" not in line] == []
    assert any(r"/v1/models\n\x1b[31mforged" in line for line in lines)


def test_nul_in_a_path_is_refused_whatever_the_content_type(calling_as: As, refused: Refused) -> None:
    for content_type in ("application/json", "multipart/x", "text/plain"):
        answer = calling_as("member").get("/v1/files/file-%00", headers={"content-type": content_type})
        assert "control character in it (%00" in refused(answer, 400)["message"]


def test_filters_have_a_limit(calling_as: As, refused: Refused, store: Store) -> None:
    for path in ("/v1/fine_tuning/jobs", "/v1/chat/completions"):
        pairs = {f"metadata[k{number}]": "v" for number in range(1900)}
        error = refused(calling_as("read-only").get(path, params=pairs), 400)
        assert error["message"].startswith("The query has 1,900 pairs metadata[KEY]=VALUE; at most 64 are looked for")
        pairs = {f"metadata[k{number}]": "v" for number in range(64)}
        assert calling_as("read-only").get(path, params=pairs).json()["data"] == []
