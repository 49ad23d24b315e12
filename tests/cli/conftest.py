"""Runs commands as a shell would (arguments in, exit code and two streams out), and one real server for all of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.scripted_server import ScriptedServer, scripted

from tunesmith.cli import run
from tunesmith.system import audit

JOKES = Path(__file__).resolve().parents[2] / "examples" / "weather-jokes.jsonl"
SERVE = (sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0")


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


Tunesmith = Callable[..., Ran]


@dataclass(frozen=True, slots=True)
class Server:
    base_url: str
    key: str
    data_dir: Path
    process: "subprocess.Popen[bytes]"
    log: Path


@pytest.fixture
def tunesmith(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Tunesmith:
    """`tunesmith("jobs", "list")`, in this process and on a data directory of the test's own."""
    for name in ("TUNESMITH_BASE_URL", "TUNESMITH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    for handler in [one for one in audit.log.handlers if one.name == "stderr"]:
        audit.log.removeHandler(handler)  # of a test that set a server's log up in this process

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run([str(one) for one in arguments])
        return Ran(int(code), *capfd.readouterr())

    return call


@pytest.fixture
def script() -> Iterator[ScriptedServer]:
    with scripted() as server:
        server.answer("GET /healthz", {"status": "ok"})
        yield server


@pytest.fixture(name="run")
def run_on_script(tunesmith: Tunesmith, script: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Tunesmith:
    """A command on the scripted server, whose address and key are in the environment."""
    monkeypatch.setenv("TUNESMITH_API_KEY", "sk-test")
    monkeypatch.setenv("TUNESMITH_BASE_URL", script.base_url)
    return tunesmith


@pytest.fixture
def jokes() -> Path:
    return JOKES


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, small_base: str) -> Iterator[Server]:
    """`tunesmith serve` in a process of its own, with its worker."""
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_BASES", small_base)
        started = start_server(data_dir)
    yield started
    stop_server(started)


@pytest.fixture(scope="session")
def trained(server: Server) -> str:
    """The id of a job of two steps that has succeeded on the shared server, trained by the command itself."""
    command = [sys.executable, "-m", "tunesmith.cli", "train", str(JOKES), "--epochs", "1", "--batch-size", "6"]
    command += ["--suffix", "two steps", "--validation", str(JOKES), "--no-evaluate", "--json"]
    command += ["--data-dir", str(server.data_dir)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    job = json.loads(finished.stdout.splitlines()[-1])
    assert job["object"] == "fine_tuning.job"
    assert job["status"] == "succeeded"
    return str(job["id"])


def start_server(data_dir: Path, *options: str) -> Server:
    scratch = data_dir.parent
    ready, log = scratch / f"{data_dir.name}.ready", scratch / f"{data_dir.name}.log"
    environment = {**os.environ, "TUNESMITH_DATA_DIR": str(data_dir), "COLUMNS": "100"}
    environment.setdefault("TUNESMITH_SERVE_WEIGHTS", "float32")  # tests/serve has the trial of 16 bits; it takes 10 s
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*SERVE, "--ready-file", str(ready), *options], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None, log.read_text("utf-8")
        assert time.monotonic() < deadline, log.read_text("utf-8")
        time.sleep(0.05)
    base_url = json.loads(ready.read_text("utf-8"))["base_url"]
    return Server(base_url, (data_dir / "api-key").read_text("utf-8").strip(), data_dir, process, log)


def stop_server(server: Server, number: int = signal.SIGTERM) -> int:
    server.process.send_signal(number)
    return server.process.wait(timeout=40)
