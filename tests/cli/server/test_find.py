"""Which server a command talks to: the one named, the one that is running, or one of its own."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import SERVE, Server, stop_server
from tests.cli.conftest import start_server as launch
from tests.cli.scripted_server import scripted

from tunesmith.cli.configure import load_settings
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.server import find
from tunesmith.cli.server.announcement import Announcement, announcement_file
from tunesmith.cli.server.find import OwnServer, connect, read_key, running_server, start_server
from tunesmith.cli.server.listener import bind, url_of
from tunesmith.client import ServerUnreachable
from tunesmith.settings import Settings
from tunesmith.store import open_store


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("TUNESMITH_API_KEY", "TUNESMITH_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data")


def test_announcement_is_read_as_it_was_written(tmp_path: Path) -> None:
    announced = Announcement("http://127.0.0.1:8000/v1", 123, "secret")
    announced.write(tmp_path / "server.json")
    assert Announcement.read(tmp_path / "server.json") == announced
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]
    assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": 1}', '{"base_url": "x", "pid": "many"}'])
def test_announcement_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content)
    assert Announcement.read(tmp_path / "server.json") is None
    assert Announcement.read(tmp_path / "nowhere.json") is None


def test_running_server_is_the_one_that_answers(settings: Settings) -> None:
    assert running_server(settings) is None
    with scripted() as script:
        announced = script.announce(announcement_file(settings))
        assert running_server(settings) == announced
        assert running_server(settings, own_url=script.base_url) is None
    assert running_server(settings) is None  # its file is there, but it has gone


@pytest.mark.parametrize("secret", ["", "another secret"])
def test_key_is_not_sent_to_a_program_that_has_the_port_of_a_server_now(
    settings: Settings, base_dir: Path, secret: str
) -> None:
    with closing(open_store(settings)) as store:
        store.keys.ensure_first(settings.paths.api_key_file)
    with scripted() as script:
        script.announce(announcement_file(settings))
        Announcement(script.base_url, os.getpid(), secret).write(announcement_file(settings))
        with connect(settings, None) as connection:
            assert connection.own is not None
            assert connection.client.base_url != script.base_url
        assert script.asked == ["GET /healthz"]
        assert script.keys == ["Bearer none"]


def test_proof_of_one_address_is_worth_nothing_at_another() -> None:
    """A program that listens where a server was cannot have the true server answer for it."""
    stale = Announcement("http://127.0.0.1:8000/v1", 1, "secret")
    true = replace(stale, base_url="http://127.0.0.1:8001/v1")
    assert stale.is_proved_by("nonce", stale.proof("nonce"))
    assert not stale.is_proved_by("nonce", true.proof("nonce"))
    assert not stale.is_proved_by("nonce", stale.proof("earlier"))
    assert not replace(stale, secret="").is_proved_by("nonce", replace(stale, secret="").proof("nonce"))


def test_announcement_of_a_port_that_another_program_has_now_is_stale(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"http://127.0.0.1:{other.getsockname()[1]}/v1"
        Announcement(address, 1).write(announcement_file(settings))
        other.close()
        assert running_server(settings) is None
    with scripted() as script:  # it answers, but it is no Tunesmith
        Announcement(script.base_url, 1).write(announcement_file(settings))
        assert running_server(settings) is None


def test_key_of_the_environment_comes_before_the_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.paths.api_key_file.write_text("sk-of-the-file\n")
    assert read_key(settings) == "sk-of-the-file"
    monkeypatch.setenv("TUNESMITH_API_KEY", "  sk-of-the-environment ")
    assert read_key(settings) == "sk-of-the-environment"
    monkeypatch.setenv("TUNESMITH_API_KEY", " ")
    assert read_key(settings) == "sk-of-the-file"


def test_no_key_is_code_5_and_says_where_it_looked(settings: Settings) -> None:
    with pytest.raises(CommandError) as raised:
        read_key(settings)
    assert raised.value.exit_code == Exit.NO_KEY
    assert str(settings.paths.api_key_file) in raised.value.message
    assert "Give the data directory of the server (--data-dir)" in raised.value.message


def test_no_key_names_the_data_directory_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_DATA_DIR", "taken back at the end")
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    with pytest.raises(CommandError) as raised:
        read_key(load_settings(tmp_path / "two words"))
    assert f"keys create NAME --data-dir '{tmp_path / 'two words'}'" in raised.value.message
    load_settings()


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_address_needs_no_scheme(
    settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("TUNESMITH_API_KEY", server.key)
    address = server.base_url.removeprefix("http://").removesuffix("/v1")
    with connect(settings, f"{scheme}{address}") as connection:
        assert connection.client.base_url == server.base_url
        assert connection.client.models()


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:8000", "", "http://", "http://a b", "http://h/v1?key=x"])
def test_what_is_no_address_is_told_one(settings: Settings, address: str) -> None:
    with (
        pytest.raises(CommandError, match="give a server's address, such as http://127") as raised,
        connect(settings, address),
    ):
        pass
    assert raised.value.exit_code == Exit.USAGE


def test_named_server_must_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_API_KEY", "key")
    with (
        pytest.raises(ServerUnreachable, match="or start one: tunesmith serve"),
        connect(settings, "http://127.0.0.1:9"),
    ):
        pass


def test_named_server_comes_before_the_one_on_the_data_directory(
    settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_API_KEY", server.key)
    with scripted() as script:
        script.announce(announcement_file(settings))
        with connect(settings, server.base_url) as connection:
            assert connection.own is None
            assert connection.client.models()
        assert script.asked == []
        with connect(settings, None) as connection:
            assert connection.own is None
            assert connection.client.base_url == script.base_url


def test_own_server_ends_with_the_block_and_logs_into_the_data_directory(settings: Settings, base_dir: Path) -> None:
    with connect(settings, None) as connection:
        assert connection.own is not None
        process = connection.own.process
        assert connection.client.models()
        assert running_server(settings) is None  # without a worker it is for this command alone
    assert process.wait(1) == 0
    assert connection.own.log == settings.paths.root / "server.log"
    assert stat.S_IMODE(settings.paths.api_key_file.stat().st_mode) == 0o600


def test_own_server_with_a_worker_is_found_by_others_and_can_be_kept(settings: Settings, base_dir: Path) -> None:
    with connect(settings, None, with_worker=True) as first:
        assert first.own is not None
        first.own.keep()
        with connect(settings, None) as second:
            assert second.own is None
            assert second.client.base_url == first.client.base_url
    assert first.own.process.poll() is None
    first.own.stop()
    assert first.own.process.returncode == 0
    assert running_server(settings) is None


def test_own_server_ends_when_the_block_fails(settings: Settings, base_dir: Path) -> None:
    opened = []

    def fail() -> None:
        with connect(settings, None) as connection:
            opened.append(connection.own)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    (own,) = opened
    assert own is not None
    assert own.process.poll() == 0


def test_server_that_takes_too_long_is_killed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "START_SECONDS", 0.0)
    with pytest.raises(CommandError, match="did not start within 0 seconds") as raised:
        start_server(settings, with_worker=False)
    assert str(settings.paths.root / "server.log") in raised.value.message


def test_server_that_dies_at_once_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CommandError, match="The server did not start: its log is empty"):
        start_server(settings, with_worker=False)


def test_server_that_does_not_listen_to_signals_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(find, "STOP_SECONDS", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    started = time.monotonic()
    OwnServer(Announcement("http://127.0.0.1:9/v1", process.pid), process, tmp_path / "log").stop()
    assert process.returncode == -9
    assert time.monotonic() - started < 10
    process.stdout.close()


def test_listener_takes_any_free_port_and_knows_its_address() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}/v1"
        with pytest.raises(CommandError, match=rf"Port {port} on 127.0.0.1 is taken .* --port {port + 1}"):
            bind("127.0.0.1", port)
    with bind("127.0.0.1", port):  # free again at once
        pass


def test_address_of_all_interfaces_is_told_as_one_that_can_be_asked() -> None:
    with bind("0.0.0.0", 0) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")
    if socket.has_ipv6:
        for host in ("::1", "::"):
            with bind(host, 0) as listener:
                assert url_of(listener).startswith("http://[::1]:")


def test_second_server_with_a_worker_is_warned_of_the_first(tmp_path: Path, base_dir: Path) -> None:
    first = launch(tmp_path / "data")
    command = [*SERVE, "--exit-when-idle", "1", "--data-dir", str(tmp_path / "data")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    announced = json.loads((tmp_path / "data" / "server.json").read_text("utf-8"))
    stop_server(first)
    assert second.returncode == 0
    assert f"warning: a server with a worker already runs on {tmp_path / 'data'} ({first.base_url}" in second.stderr
    assert "--no-worker leaves training to it." in second.stderr
    assert announced["pid"] == first.process.pid  # the second has stopped, and left it


def test_second_server_on_a_directory_is_announced_when_the_first_has_gone(tmp_path: Path, base_dir: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    first = launch(settings.data_dir)
    (tmp_path / "data.ready").unlink()
    second = launch(settings.data_dir)
    try:
        found = running_server(settings)
        assert found is not None
        assert found.base_url == first.base_url  # not overwritten
        first.process.kill()
        first.process.wait()
        deadline = time.monotonic() + 20
        while (found := running_server(settings)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert found.base_url == second.base_url
    finally:
        first.process.kill()
        assert stop_server(second) == 0
    assert not announcement_file(settings).exists()
