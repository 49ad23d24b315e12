"""Commands that need no server start none, and answer as a server would."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Server, Tunesmith
from tests.web.work import finish, running_job

from tunesmith.cli.server.in_process import own_application
from tunesmith.client import Client, ServerRefused
from tunesmith.settings import Settings
from tunesmith.store import NewFile, Store, open_store

ROWS = b"".join(b'{"n": %d}\n' % number for number in range(300_000))  # 4 MB, which come in pieces


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def settings(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    data_dir.mkdir()
    return Settings(data_dir=data_dir)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings)
    yield opened
    opened.close()


def stored_file(store: Store) -> str:
    return store.files.create(store.blobs.write([ROWS], max_bytes=len(ROWS)), NewFile("fine-tune", "rows.jsonl")).id


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("models list", 0),
        ("models delete ft:no:such::model --yes", 1),
        ("jobs list", 0),
        ("jobs show ftjob-none", 1),
        ("jobs cancel ftjob-none", 1),
        ("jobs watch ftjob-none", 1),
        ("files list", 0),
        ("files download file-none", 1),
        ("files delete file-none --yes", 1),
    ],
)
def test_command_that_needs_no_server_starts_none(
    tunesmith: Tunesmith, data_dir: Path, command: str, code: int
) -> None:
    ran = tunesmith(*command.split())
    assert ran.code == code, ran.err
    assert "is called" in ran.err or code == 0
    assert (data_dir / "api-key").is_file()  # of a first start, as before
    assert not (data_dir / "server.log").exists()  # of every server that a command starts


def test_job_that_has_ended_is_watched_without_a_server(tunesmith: Tunesmith, settings: Settings, store: Store) -> None:
    lease = running_job(store, suffix="done")
    made = finish(store, lease, settings.paths.jobs / lease.job_id / "final")
    store.keys.ensure_first(settings.paths.api_key_file)
    ran = tunesmith("jobs", "watch", "last")
    assert ran.code == 0, ran.err
    assert f"chat {made.fine_tuned_model}" in ran.out
    assert tunesmith("jobs", "result", "last").out == "step,train_loss\n1,1.5\n"
    assert not (settings.paths.root / "server.log").exists()


def test_list_of_models_has_bases_and_their_aliases(tunesmith: Tunesmith) -> None:
    out = tunesmith("models", "list").out
    (line,) = [line for line in out.splitlines() if line.startswith("smollm2-135m-instruct ")]
    assert "gpt-3.5-turbo-0125" in line
    listed = tunesmith("models", "list", "--json")
    owners = {one["id"]: one["owned_by"] for one in json.loads(listed.out)}
    assert owners["smollm2-135m-instruct"] == "tunesmith"
    assert owners["gpt-4o-mini"] == "alias-of:smollm2-135m-instruct"
    assert "server" not in listed.err


def test_answers_are_those_of_the_server_on_the_same_directory(
    server: Server, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    over_http = Client(server.base_url, server.key)
    with own_application(Settings(data_dir=server.data_dir)) as within:
        for client in (over_http, within):
            assert trained in [job.id for job in client.jobs(100)]
        job = within.job(trained)
        assert job.wire == over_http.job(trained).wire
        assert [one.wire for one in within.models()] == [one.wire for one in over_http.models()]
        assert [one.wire for one in within.files(100)] == [one.wire for one in over_http.files(100)]
        assert [one.wire for one in within.events(trained, 100)] == [one.wire for one in over_http.events(trained, 100)]
        assert within.model(job.fine_tuned_model or "").wire == over_http.model(job.fine_tuned_model or "").wire
        assert within.content(job.result_files[0]) == over_http.content(job.result_files[0])
    over_http.close()


def test_content_comes_in_pieces_and_may_be_left_in_the_middle(settings: Settings, store: Store) -> None:
    file_id = stored_file(store)
    with own_application(settings) as client:
        pieces = list(client.content_pieces(file_id))
        assert len(pieces) > 4
        assert b"".join(pieces) == ROWS
        begun = client.content_pieces(file_id)
        assert ROWS.startswith(next(begun))
        begun.close()  # type: ignore[attr-defined]
        assert client.file(file_id).bytes == len(ROWS)


def test_deleted_is_deleted_and_the_use_of_the_key_is_noted(settings: Settings, store: Store) -> None:
    file_id, now = stored_file(store), int(time.time())
    with own_application(settings) as client:
        client.delete_file(file_id)
        with pytest.raises(ServerRefused, match="No such File object") as refused:
            client.file(file_id)
    assert refused.value.status_code == 404
    assert store.files.get(file_id) is None
    (key,) = store.keys.all()
    assert (key.last_used_at or 0) >= now


def test_wrong_key_is_refused_as_a_server_refuses_it(
    tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.setenv("TUNESMITH_API_KEY", "sk-this-is-the-wrong-key-for-sure")
    ran = tunesmith("models", "list")
    assert ran.code == 5
    assert ran.err.startswith("error: Incorrect API key provided: sk-this-")
    assert ran.err.count("\n") == 1  # no line of a log
    assert not (data_dir / "server.log").exists()


def test_alias_is_deleted_with_a_line_in_the_audit_log(tunesmith: Tunesmith, data_dir: Path) -> None:
    assert tunesmith("models", "alias", "our-bot", "smollm2-135m-instruct").code == 0
    assert "our-bot" in tunesmith("models", "list").out
    assert tunesmith("models", "delete", "our-bot", "--yes").code == 0
    assert "our-bot" not in tunesmith("models", "list").out
    last = json.loads((data_dir / "audit.log").read_text("utf-8").splitlines()[-1])
    assert (last["deed"], last["what"], last["from"]) == ("alias.removed", "our-bot", "command line")
