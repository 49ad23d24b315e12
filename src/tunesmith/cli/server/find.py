"""Finds the server that a command talks to, or starts one while it is needed."""

import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cli.configure import again
from tunesmith.cli.data_dir import secure_data_dir
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.waiting import Waiting
from tunesmith.cli.server.announcement import CHALLENGE, PROOF, Announcement, activity_dir, announcement_file
from tunesmith.client import Client, ServerUnreachable
from tunesmith.settings import Settings
from tunesmith.system import activity
from tunesmith.system.disk import free_bytes
from tunesmith.system.python import module_command

START_SECONDS = 120.0  # the first start converts the base model, which takes time on a slow disk
STOP_SECONDS = 30.0
LEAST_ROOM = 64 * 1024  # bytes, without which even a log is not written
LINGER_SECONDS = 60.0  # a server that was kept ends this long after its last job and request


@dataclass(slots=True)
class OwnServer:
    """A server process that this command started."""

    announcement: Announcement
    process: "subprocess.Popen[bytes]"
    log: Path
    kept: bool = False

    def keep(self) -> None:
        """Leaves the server running; it ends by itself once its work is done."""
        self.kept = True

    def fate(self) -> str | None:
        """How the server ended, in a sentence; None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        return f"The server of this command {how}. Its log: {self.log}"

    def stop(self) -> None:
        """Ends the server, by force after `STOP_SECONDS`."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Connection:
    """A client of the server a command talks to."""

    client: Client
    own: OwnServer | None  # None: a server that was running before
    activity_dir: Path | None = None  # where it tells what it does; None: it is on another machine

    def activity(self) -> str | None:
        """What slow thing the server does right now, if that is known."""
        return None if self.activity_dir is None else activity.current(self.activity_dir)


@contextmanager
def connect(settings: Settings, base_url: str | None, *, with_worker: bool = False) -> Iterator[Connection]:
    """Connects to the server at `base_url`, else the one on the data directory.

    If neither exists, starts a server until the block ends, which trains if `with_worker`.
    Raises ServerUnreachable when `base_url` does not answer, and CommandError without an API key.
    """
    found = _existing(settings, base_url)
    if found is not None:
        with closing(found.client):
            yield found
        return
    with Waiting("no server is running: starting one", lambda: activity.current(activity_dir(settings))):
        own = start_server(settings, with_worker=with_worker)
    try:
        with closing(Client(own.announcement.base_url, read_key(settings))) as client:
            yield Connection(client, own, activity_dir(settings))
    finally:
        if not own.kept:
            own.stop()


@contextmanager
def ask(settings: Settings, base_url: str | None) -> Iterator[Client]:
    """A client for what needs no model in memory and no worker, such as lists.

    It talks to the same server as `connect`, but starts none: where none runs, the application answers in this process.
    Raises as `connect` does.
    """
    found = _existing(settings, base_url)
    if found is not None:
        with closing(found.client) as client:
            yield client
        return
    from tunesmith.cli.server.in_process import own_application  # imports all of the API

    with own_application(settings) as client:
        yield client


def _existing(settings: Settings, base_url: str | None) -> Connection | None:
    """The server at `base_url`, else the one on the data directory, if any."""
    if base_url is None:
        running = running_server(settings)
        if running is None:
            return None
        return Connection(Client(running.base_url, read_key(settings)), None, activity_dir(settings))
    client = Client(full_url(base_url), read_key(settings))
    if not client.is_alive():
        raise ServerUnreachable(
            f"No server answers at {client.base_url}. Check the address, or start one: tunesmith serve"
        )
    return Connection(client, None)


def full_url(base_url: str) -> str:
    """The address with http:// in front of it where it has no scheme.

    Raises CommandError for one that is no address of a server.
    """
    url = base_url.strip() if "://" in base_url else f"http://{base_url.strip()}"
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url, re.IGNORECASE):
        raise CommandError(
            f"--base-url is {base_url!r}: give a server's address, such as http://127.0.0.1:8000/v1.", Exit.USAGE
        )
    return url


def running_server(settings: Settings, *, own_url: str | None = None) -> Announcement | None:
    """The server that announced itself in the data directory, if it still answers.

    It must prove that it is that server before anybody sends it a key. `own_url`: an address that this process has,
    so that no other can be there.
    """
    found = Announcement.read(announcement_file(settings))
    if found is None or found.base_url == own_url:
        return None
    challenge = secrets.token_hex(16)
    client = Client(found.base_url, "none")
    try:
        answer = client.health({CHALLENGE: challenge})
    finally:
        client.close()
    return found if answer is not None and found.is_proved_by(challenge, answer.get(PROOF, "")) else None


def read_key(settings: Settings) -> str:
    """The API key in TUNESMITH_API_KEY, or in the data directory's file.

    Raises CommandError when there is neither.
    """
    key = os.environ.get("TUNESMITH_API_KEY", "").strip()
    if key:
        return key
    path = settings.paths.api_key_file
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CommandError(
            f"There is no API key: TUNESMITH_API_KEY is not set and {path} does not exist."
            " Give the data directory of the server (--data-dir), or make a key on the server's machine"
            f" (`{again('keys create NAME')}`) and set TUNESMITH_API_KEY to it.",
            Exit.NO_KEY,
        ) from None


def start_server(settings: Settings, *, with_worker: bool) -> OwnServer:
    """Starts a server on a free loopback port.

    It has a session of its own, so that Ctrl-C does not reach it.
    Raises CommandError, with the last line of its log, when it does not start.
    """
    secure_data_dir(settings)
    log = settings.paths.root / "server.log"
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as scratch:
        ready = Path(scratch) / "ready.json"
        command = module_command("tunesmith.cli", "serve", "--host", "127.0.0.1", "--port", "0")
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
            process.wait()
        raise


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if lines:
        return lines[-1].removeprefix("error: ")
    free = free_bytes(log.parent)
    full = f", and the disk of {log.parent} is full ({free:,} bytes are free): free some space there"
    return f"its log is empty{full if free < LEAST_ROOM else ''}"
