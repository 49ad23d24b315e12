"""Finds the server a command talks to, or starts one of its own for as long as the command needs it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.terminal import err
from tunesmith.cli.server.run import Announcement, announcement_file
from tunesmith.client import Client, ServerUnreachable
from tunesmith.settings import Settings

START_SECONDS = 120.0  # the first start converts the base model; a slow disk needs its time
STOP_SECONDS = 30.0
LINGER_SECONDS = 60.0  # a server whose command has gone ends so long after its last job and request


@dataclass(slots=True)
class OwnServer:
    """A server process that this command started. `keep` leaves it running: it ends by itself when its work is done."""

    announcement: Announcement
    process: "subprocess.Popen[bytes]"
    log: Path
    kept: bool = False

    def keep(self) -> None:
        self.kept = True

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Connection:
    client: Client
    own: OwnServer | None  # None: a server that was running before


@contextmanager
def connect(settings: Settings, base_url: str | None, *, with_worker: bool = False) -> Iterator[Connection]:
    """The server named, else the one running on the data directory, else one of our own until the block ends.

    `with_worker`: our own server also trains. Raises ServerUnreachable when the one named does not answer.
    """
    if base_url is not None:
        client = Client(base_url, read_key(settings))
        if not client.is_alive():
            raise ServerUnreachable(
                f"No server answers at {client.base_url}. Check the address, or start one: tunesmith serve"
            )
        yield from _with(client, None)
        return
    running = running_server(settings)
    if running is not None:
        yield from _with(Client(running.base_url, read_key(settings)), None)
        return
    with err().status("No server is running: starting one for this command …"):
        own = start_server(settings, with_worker=with_worker)
    try:
        yield from _with(Client(own.announcement.base_url, read_key(settings)), own)
    finally:
        if not own.kept:
            own.stop()


def _with(client: Client, own: OwnServer | None) -> Iterator[Connection]:
    try:
        yield Connection(client, own)
    finally:
        client.close()


def running_server(settings: Settings) -> Announcement | None:
    """The server that announced itself in the data directory and still answers."""
    found = Announcement.read(announcement_file(settings))
    if found is None:
        return None
    client = Client(found.base_url, "none")
    try:
        return found if client.is_alive() else None
    finally:
        client.close()


def read_key(settings: Settings) -> str:
    """From TUNESMITH_API_KEY, or the file that the first start wrote into the data directory."""
    key = os.environ.get("TUNESMITH_API_KEY", "").strip()
    if key:
        return key
    path = settings.paths.api_key_file
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CommandError(
            f"There is no API key: TUNESMITH_API_KEY is not set and {path} does not exist."
            " Make one on the server's machine with `tunesmith keys create NAME` and set TUNESMITH_API_KEY to it.",
            Exit.NO_KEY,
        ) from None


def start_server(settings: Settings, *, with_worker: bool) -> OwnServer:
    """A server on a free loopback port, in a session of its own so that Ctrl-C does not reach it."""
    settings.paths.root.mkdir(parents=True, exist_ok=True)
    log = settings.paths.root / "server.log"
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as scratch:
        ready = Path(scratch) / "ready.json"
        command = [sys.executable, "-m", "tunesmith.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
        command += ["--ready-file", str(ready), "--exit-when-idle", str(LINGER_SECONDS), "--log-level", "warning"]
        if not with_worker:
            command += ["--no-worker"]
        environment = {**os.environ, "TUNESMITH_DATA_DIR": str(settings.paths.root)}
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return OwnServer(_wait_until_ready(process, ready, log), process, log)


def _wait_until_ready(process: "subprocess.Popen[bytes]", ready: Path, log: Path) -> Announcement:
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            announcement = Announcement.read(ready)
            if announcement is not None:
                return announcement
            if process.poll() is not None:
                raise CommandError(f"The server did not start: {_last_words(log)} (all of it: {log})")
            time.sleep(0.05)
        raise CommandError(f"The server did not start within {START_SECONDS:.0f} seconds. Its log: {log}")
    except BaseException:
        if process.poll() is None:
            process.kill()
        raise


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "it said nothing"
