"""The audit log: a line for each change of a key, project or permission, and each refusal; never a key."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.security.conftest import As

from tunesmith.cli import run
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.system.audit import keep_audit_in, log

ORGANIZATION = "/v1/organization"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """`lines()`: what was written since the last call."""
    caplog.set_level(logging.INFO, "tunesmith.audit")

    def read() -> list[dict[str, Any]]:
        found = [json.loads(record.getMessage()) for record in caplog.records if record.name == "tunesmith.audit"]
        caplog.clear()
        return found

    return read


def test_every_change_by_the_api_is_a_line(client: TestClient, store: Store, key: str, lines: Any) -> None:
    project = client.post(f"{ORGANIZATION}/projects", json={"name": "new\nline"}).json()["id"]
    client.post(f"{ORGANIZATION}/projects/{project}", json={"name": "renamed"})
    made = client.post(f"{ORGANIZATION}/projects/{project}/api_keys", json={"name": "bot", "role": "member"}).json()
    admin = client.post(f"{ORGANIZATION}/admin_api_keys", json={"name": "boss"}).json()
    client.delete(f"{ORGANIZATION}/projects/{project}/api_keys/{made['id']}")
    client.delete(f"{ORGANIZATION}/admin_api_keys/{admin['id']}")
    client.post(f"{ORGANIZATION}/projects/{project}/archive")
    written = lines()
    assert [(one["deed"], one["what"]) for one in written] == [
        ("project.created", project),
        ("project.renamed", project),
        ("key.created", made["id"]),
        ("key.created", admin["id"]),
        ("key.revoked", made["id"]),
        ("key.revoked", admin["id"]),
        ("project.archived", project),
    ]
    row = store.keys.verify(key)
    assert row is not None
    assert {one["who"] for one in written} == {f"{row.id} (…{key[-4:]}, owner in default)"}
    assert {one["from"] for one in written} == {"testclient"}
    assert (written[0]["name"], written[2]["role"], written[2]["project"]) == ("new\nline", "member", project)
    text = json.dumps(written)
    assert [secret for secret in (key, made["value"], admin["value"]) if secret[:-4] in text] == []


def test_reading_and_failing_write_no_change(client: TestClient, lines: Any) -> None:
    client.get(f"{ORGANIZATION}/projects")
    client.post(f"{ORGANIZATION}/projects", json={})
    client.delete(f"{ORGANIZATION}/projects/default/api_keys/key_none")
    client.post("/v1/fine_tuning/checkpoints/none/permissions", json={"project_ids": ["default"]})
    assert lines() == []


def test_every_refusal_is_a_line(calling_as: As, lines: Any) -> None:
    calling_as(None).get("/v1/models", headers={"x-forwarded-for": "10.1.2.3\x1b"})
    calling_as(None).get("/v1/models/forged", headers={"authorization": "Bearer sk-a-very-long-wrong-key-1234"})
    calling_as("read-only").delete("/v1/models/x")
    chat = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hi"}], "store": True}
    calling_as("read-only").post("/v1/chat/completions", json=chat)
    written = lines()
    assert [(one["status"], one["what"]) for one in written] == [
        (401, "GET /v1/models"),
        (401, "GET /v1/models/forged"),
        (403, "DELETE /v1/models/x"),
        (403, "POST /v1/chat/completions"),
    ]
    assert [one["who"] for one in written[:2]] == ["no key", "an unknown key (…1234)"]
    assert all(one["who"].startswith("key_") and "read-only in default" in one["who"] for one in written[2:])
    assert written[0]["from"] == "testclient, for 10.1.2.3\x1b"
    assert "very-long-wrong" not in json.dumps(written)


def test_lines_cannot_be_forged(calling_as: As, caplog: pytest.LogCaptureFixture) -> None:
    calling_as(None).get("/v1/%0a%1b[2J")
    assert all(record.getMessage().isprintable() and record.getMessage().isascii() for record in caplog.records)


def test_commands_write_theirs_into_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = tmp_path / "data"
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(data_dir))
    assert run(["projects", "create", "team"]) == 0
    project = capsys.readouterr().out.strip()
    assert run(["keys", "create", "bot", "--project", project, "--json"]) == 0
    key = json.loads(capsys.readouterr().out)
    assert run(["keys", "revoke", key["id"]]) == 0
    assert run(["projects", "archive", project]) == 0
    written = [json.loads(line) for line in (data_dir / "audit.log").read_text("ascii").splitlines()]
    assert [(one["deed"], one["what"]) for one in written] == [
        ("project.created", project),
        ("key.created", "first"),
        ("key.created", key["id"]),
        ("key.revoked", key["id"]),
        ("project.archived", project),
    ]
    assert all(one["who"].startswith("user ") and one["from"] == "command line" for one in written)
    assert key["key"][:-4] not in (data_dir / "audit.log").read_text()


def test_refusals_do_not_fill_the_disk(calling_as: As, settings: Settings) -> None:
    keep_audit_in(settings.paths.root)
    for _ in range(3):
        calling_as(None).get("/v1/models")
    assert not (settings.paths.root / "audit.log").exists()
    for handler in list(log.handlers):
        log.removeHandler(handler)
