"""Commands whose reader leaves, or whose terminal has only ASCII; and servers that go on without a reader."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES, SERVE, Server
from tests.samples import in_turn
from tests.train.conftest import of_tiny_base, write_tiny_base

from tunesmith.client import Client

TUNESMITH = (sys.executable, "-m", "tunesmith.cli")
COMMANDS = [
    "--help",
    "version",
    f"check {JOKES}",
    f"check {JOKES} --json",
    f"estimate {JOKES}",
    "jobs list",
    "jobs list --json",
    "models list",
    "keys list",
    "projects list",
    "usage",
    "chat smollm2-135m-instruct --help",
    "no-such-command",
    "jobs show ftjob-…nowhere",
]
WAYS = ("no stdout", "no stdout and no stderr", "ASCII")
CASES = in_turn([(command, way) for command in COMMANDS for way in WAYS], len(WAYS))


@pytest.fixture
def environment(server: Server) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "TUNESMITH_DATA_DIR": str(server.data_dir)}


@pytest.mark.parametrize(
    ("command", "way"),
    [one for one in CASES if one[1] != "ASCII"],
    ids=lambda word: word.replace(str(JOKES), "FILE"),
)
def test_command_without_a_reader_ends_quietly(environment: dict[str, str], command: str, way: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stderr = writer if way == "no stdout and no stderr" else subprocess.PIPE
    ran = subprocess.run(
        [*TUNESMITH, *command.split()], env=environment, stdout=writer, stderr=stderr, timeout=120, check=False
    )
    os.close(writer)
    shown = (ran.stderr or b"").decode()
    assert ran.returncode in (0, 1, 2), shown  # 70 would be a bug, 120 a failure at exit, -13 a signal
    assert "Traceback" not in shown
    assert "Broken" not in shown
    assert "Exception" not in shown


@pytest.mark.parametrize(
    "command", [one[0] for one in CASES if one[1] == "ASCII"], ids=lambda word: word.replace(str(JOKES), "FILE")
)
def test_command_at_an_ascii_terminal_shows_what_it_can(environment: dict[str, str], command: str) -> None:
    ascii_only = {**environment, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run([*TUNESMITH, *command.split()], env=ascii_only, capture_output=True, timeout=120, check=False)
    assert (ran.stdout + ran.stderr).isascii()
    assert b"Traceback" not in ran.stderr
    assert b"bug" not in ran.stderr
    assert ran.returncode == (2 if command.startswith("no-such") else 1 if "nowhere" in command else 0), ran.stderr


def test_json_at_an_ascii_terminal_is_whole(environment: dict[str, str], tmp_path: Path) -> None:
    rows = tmp_path / "größe.jsonl"
    rows.write_text(JOKES.read_text("utf-8"), "utf-8")
    command = [*TUNESMITH, "check", str(rows), "--json"]
    ascii_only = {**environment, "PYTHONIOENCODING": "ascii"}
    plain = subprocess.run(command, env=ascii_only, capture_output=True, timeout=120, check=True)
    utf8 = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    assert plain.stdout.isascii()
    assert json.loads(plain.stdout)["file"] == json.loads(utf8.stdout)["file"] == rows.name


def test_server_goes_on_when_the_reader_of_its_log_has_gone(tmp_path: Path, base_dir: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [*SERVE, "--ready-file", str(ready), "--data-dir", str(tmp_path / "data"), "--log-level", "debug"]
    (tmp_path / "base").mkdir()
    environment = {**os.environ, **of_tiny_base(write_tiny_base(base_dir, tmp_path / "base"))}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait(ready.exists)
        assert process.stdout is not None
        process.stdout.close()
        client = Client(json.loads(ready.read_text())["base_url"], (tmp_path / "data" / "api-key").read_text().strip())
        file = client.upload(JOKES)
        options = {"n_epochs": 1, "batch_size": 12}
        job = client.create_job({"model": "tiny", "training_file": file.id, "hyperparameters": options})
        wait(lambda: client.job(job.id).finished, 180)
        assert client.job(job.id).status == "succeeded"
        client.close()
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


SLOW = """
import sys, time
from tunesmith.system.streams import guard_streams, show_start
guard_streams()
show_start()
time.sleep(2.2)
print("done", file=sys.stdout if sys.argv[1] == "out" else sys.stderr)
time.sleep(1.2)
"""


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_slow_start_is_told_on_a_terminal_until_something_is_printed(stream: str) -> None:
    terminal, other = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SLOW, stream], stdin=other, stdout=other, stderr=other)
    os.close(other)
    shown = b""
    with suppress(OSError):  # on Linux the end of the other side
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    assert process.wait(timeout=30) == 0
    lines = [line.removeprefix("\x1b[2K") for line in shown.decode().replace("\r\n", "\n").split("\r")]
    assert lines[0] == ""
    assert lines[1:3] == ["tunesmith is starting ... 1s", "tunesmith is starting ... 2s"]
    assert lines[-1] == "done\n"
    assert len(lines) <= 5


def test_a_slow_start_is_not_told_in_a_pipe() -> None:
    ran = subprocess.run([sys.executable, "-c", SLOW, "out"], capture_output=True, timeout=30, check=False)
    assert (ran.stdout, ran.stderr) == (b"done\n", b"")
