"""`tunesmith serve` as a process: banner, key, ports, signals, and how other commands find it."""

import asyncio
import json
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
from tests.cli.conftest import Server, Tunesmith, start_server, stop_server
from tests.processes import children

from tunesmith.cli.server.listener import bind


def test_banner_tells_what_a_client_needs(server: Server) -> None:
    banner = server.log.read_text("utf-8")
    assert server.key not in banner
    for expected in (
        server.base_url,
        str(server.data_dir / "api-key"),
        "smollm2-135m-instruct",
        "gpt-3.5-turbo",
        "Ctrl-C",
    ):
        assert expected in banner, banner


def test_database_of_a_running_server_is_not_moved(server: Server, tunesmith: Tunesmith) -> None:
    ran = tunesmith("db", "move", "postgresql://nobody@127.0.0.1:1/none", "--data-dir", str(server.data_dir))
    assert ran.code == 1
    assert f"A server runs on this data directory, at {server.base_url}. Stop it" in " ".join(ran.err.split())


def test_key_is_made_at_the_first_start_only_and_never_shown_in_a_log(tmp_path: Path) -> None:
    first = start_server(tmp_path / "data", "--no-worker")
    assert first.key not in first.log.read_text("utf-8")
    assert stop_server(first) == 0
    assert (tmp_path / "data" / "api-key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "data.ready").unlink()
    second = start_server(tmp_path / "data", "--no-worker")
    assert second.key == first.key
    assert first.key not in second.log.read_text("utf-8")
    assert stop_server(second, signal.SIGINT) == 0


def test_base_that_was_asked_last_is_loaded_at_the_next_start_and_kept_by_requests(tmp_path: Path) -> None:
    base, kept = "smollm2-135m-instruct", tmp_path / "data" / "serve" / "last-base.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"directory": "", "name": base}))
    started = start_server(tmp_path / "data", "--no-worker")
    try:
        deadline = time.monotonic() + 120  # the kernels may have to be compiled first
        while "a base is in memory before it is asked for" not in started.log.read_text("utf-8"):
            assert time.monotonic() < deadline, started.log.read_text("utf-8")
            time.sleep(0.05)
        kept.unlink()
        asked = {"model": base, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        headers = {"Authorization": f"Bearer {started.key}"}
        httpx.post(f"{started.base_url}/chat/completions", json=asked, headers=headers, timeout=30).raise_for_status()
        assert json.loads(kept.read_text("utf-8"))["name"] == base
    finally:
        stop_server(started)


def test_stopped_server_leaves_no_address_behind(tmp_path: Path) -> None:
    started = start_server(tmp_path / "data")
    announced = json.loads((tmp_path / "data" / "server.json").read_text("utf-8"))
    assert announced.keys() == {"base_url", "pid", "secret"}
    assert (announced["base_url"], announced["pid"]) == (started.base_url, started.process.pid)
    assert announced["secret"] not in (tmp_path / "data.ready").read_text("utf-8")
    assert stop_server(started) == 0
    assert not (tmp_path / "data" / "server.json").exists()
    assert "Traceback" not in started.log.read_text("utf-8")


def test_busy_port_is_refused_with_another_to_try(tunesmith: Tunesmith) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = tunesmith("serve", "--port", port)
    assert ran.code == 1
    assert f"Port {port} on 127.0.0.1 is taken" in ran.err
    assert "--port 0" in ran.err


@pytest.mark.parametrize(
    ("host", "words"), [("no.such.host.invalid", "is unknown"), ("203.0.113.7", "Cannot listen on 203.0.113.7")]
)
def test_host_of_another_machine_is_refused(tunesmith: Tunesmith, host: str, words: str) -> None:
    ran = tunesmith("serve", "--host", host)
    assert ran.code == 1
    assert words in ran.err


def test_server_without_work_stops_when_told_to_and_requests_keep_it_alive(tmp_path: Path) -> None:
    started = start_server(tmp_path / "data", "--no-worker", "--exit-when-idle", "4")
    for _ in range(9):
        assert httpx.get(f"{started.base_url.removesuffix('/v1')}/healthz").is_success
        time.sleep(0.6)  # other tests may make it seconds
    assert started.process.wait(timeout=20) == 0


def test_command_finds_the_server_on_its_data_directory(tunesmith: Tunesmith, server: Server) -> None:
    assert tunesmith("jobs", "show", "ftjob-nowhere", "--data-dir", server.data_dir).code == 1
    assert "GET /v1/fine_tuning/jobs/ftjob-nowhere 404" in server.log.read_text("utf-8")
    assert tunesmith("jobs", "list", "--data-dir", server.data_dir).code == 0
    assert "GET /v1/fine_tuning/jobs 200" not in server.log.read_text("utf-8")  # what polls would fill the log


def test_command_does_not_believe_in_a_server_that_has_gone(tunesmith: Tunesmith, tmp_path: Path) -> None:
    assert tunesmith("keys", "create", "any").code == 0
    (tmp_path / "data" / "server.json").write_text('{"base_url": "http://127.0.0.1:9/v1", "pid": 1}')  # long gone
    ran = tunesmith("jobs", "list")
    assert ran.code == 0, ran.err
    assert "No jobs yet" in ran.err


def test_command_without_the_key_file_says_where_a_key_comes_from(tunesmith: Tunesmith, tmp_path: Path) -> None:
    tunesmith("keys", "create", "any")
    (tmp_path / "data" / "api-key").unlink()
    ran = tunesmith("jobs", "list")
    assert ran.code == 5
    assert "set TUNESMITH_API_KEY to it" in ran.err


def test_own_server_that_cannot_start_says_why(
    tunesmith: Tunesmith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_BASE_MODEL", "nonsense")
    ran = tunesmith("chat", "a-model", "Hello")
    assert ran.code == 1
    assert "The server did not start: " in ran.err
    assert "nonsense" in ran.err
    assert str(tmp_path / "data" / "server.log") in ran.err


def test_answers_do_not_wait_for_the_clients_acknowledgement() -> None:
    """Without TCP_NODELAY a connection that is kept open gets each answer 40 ms late."""

    async def accepted() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            told.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with bind("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(connected, sock=listener):
                with socket.create_connection(listener.getsockname()):
                    return await told

    assert asyncio.run(accepted()) == 1


def test_a_closed_terminal_ends_the_server_and_its_worker(tmp_path: Path) -> None:
    started = start_server(tmp_path / "data")
    (worker,) = children("tunesmith.worker", started.process.pid)
    assert stop_server(started, signal.SIGHUP) == 0
    assert not worker.is_running()
    assert not (tmp_path / "data" / "server.json").exists()


def test_pages_that_are_kept_up_to_date_do_not_hold_a_stopping_server(tmp_path: Path) -> None:
    started = start_server(tmp_path / "data", "--no-worker")
    root = started.base_url.removesuffix("/v1")
    headers = {"authorization": f"Bearer {started.key}"}
    row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    with httpx.Client(base_url=root) as client:
        client.post("/ui/sign-in", data={"key": started.key})
        file = client.post(
            "/v1/files", headers=headers, data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", row * 10)}
        ).json()
        body = {"model": "smollm2-135m-instruct", "training_file": file["id"]}
        job = client.post("/v1/fine_tuning/jobs", headers=headers, json=body).json()
        with client.stream("GET", f"/ui/live/jobs/{job['id']}") as page:
            lines = page.iter_lines()
            assert next(lines).startswith("id: ")
            began = time.monotonic()
            started.process.send_signal(signal.SIGTERM)
            assert list(lines)[-1] == ""  # an ordinary end
            assert time.monotonic() - began < 2.5  # answers that are being streamed have 3 s
    assert started.process.wait(timeout=40) == 0
    assert "Traceback" not in started.log.read_text("utf-8")
