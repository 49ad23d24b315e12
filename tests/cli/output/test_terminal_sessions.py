"""Commands at a real terminal: a conversation, a question before a deletion, and a job's live bar."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES, Server, start_server
from tests.cli.scripted_server import ScriptedServer, scripted

from tunesmith.client import Client

CHAT = "POST /v1/chat/completions"


@dataclass(slots=True)
class Session:
    """A command whose three streams are one terminal of 100 columns."""

    terminal: int
    process: "subprocess.Popen[bytes]"
    shown: str = ""

    def type(self, line: str) -> None:
        os.write(self.terminal, f"{line}\n".encode())

    def interrupt(self) -> None:
        os.write(self.terminal, b"\x03")

    def wait_for(self, text: str, seconds: float = 30) -> None:
        """Reads until the text is there; what has been shown before counts no more."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} in: {self.shown!r}"
            self._read()
        self.shown = self.shown.partition(text)[2]

    def end(self) -> str:
        """What was still to be shown until the command ended."""
        while self._read():
            pass
        self.process.wait(timeout=30)
        return self.shown

    def _read(self) -> bool:
        ready, _, _ = select.select([self.terminal], [], [], 0.2)
        piece = b""
        if ready:
            with suppress(OSError):  # on Linux the end of the other side
                piece = os.read(self.terminal, 65536)
        self.shown += piece.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece) or self.process.poll() is None


@contextmanager
def session(*arguments: str, **environment: str) -> Iterator[Session]:
    terminal, other = pty.openpty()
    settings = {"COLUMNS": "100", "LINES": "40", "TERM": "xterm", "NO_COLOR": "1", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "tunesmith.cli", *arguments],
        stdin=other,
        stdout=other,
        stderr=other,
        env={**os.environ, **settings},
        start_new_session=True,
        preexec_fn=_make_terminal_ours,
    )
    os.close(other)
    try:
        yield Session(terminal, process)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _make_terminal_ours() -> None:
    """Ctrl-C reaches the process only from its controlling terminal."""
    import fcntl
    import signal
    import termios

    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def script() -> Iterator[ScriptedServer]:
    with scripted() as server:
        server.answer("GET /healthz", {})
        yield server


def answer(*pieces: str) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"


def said(script: ScriptedServer) -> list[list[tuple[str, str]]]:
    """The messages of each chat request, as (role, content)."""
    bodies = [json.loads(body) for asked, body in zip(script.asked, script.bodies, strict=True) if asked == CHAT]
    return [[(one["role"], one["content"]) for one in body["messages"]] for body in bodies]


def test_conversation_remembers_resets_and_ends(script: ScriptedServer) -> None:
    script.answer(CHAT, answer("Good ", "day."), answer("Yes."), answer("Who?"), answer("Arr."))
    arguments = ("chat", "some-model", "--system", "Be brief.", "--base-url", script.base_url)
    with session(*arguments, TUNESMITH_API_KEY="key") as terminal:
        terminal.wait_for("some-model. /reset starts over")
        for typed, shown in (
            ("Hello", "Good day."),
            ("Again?", "Yes."),
            ("/reset", "(forgotten)"),
            ("Do you know me?", "Who?"),
            ("/nonsense", "/reset starts over"),
            ("/system Talk like a pirate.", "(new conversation)"),
            ("Hello", "Arr."),
        ):
            terminal.wait_for("you: ")
            terminal.type(typed)
            terminal.wait_for(shown)
        terminal.wait_for("you: ")
        terminal.type("/exit")
        terminal.end()
        assert terminal.process.returncode == 0
    brief, hello = ("system", "Be brief."), ("user", "Hello")
    assert said(script) == [
        [brief, hello],
        [brief, hello, ("assistant", "Good day."), ("user", "Again?")],
        [brief, ("user", "Do you know me?")],
        [("system", "Talk like a pirate."), hello],
    ]


def test_refused_question_does_not_end_the_conversation(script: ScriptedServer) -> None:
    script.answer(CHAT, {"error": {"message": "The messages have 9000 tokens."}}, status=400)
    script.answer(CHAT, answer("Yes."))
    with session("chat", "m", "--base-url", script.base_url, TUNESMITH_API_KEY="key") as terminal:
        terminal.wait_for("you: ")
        terminal.type("Too long")
        terminal.wait_for("The messages have 9000 tokens.")
        terminal.wait_for("the conversation goes on")
        terminal.wait_for("you: ")
        terminal.type("Short?")
        terminal.wait_for("Yes.")
        terminal.wait_for("you: ")
        terminal.type("/quit")
        terminal.end()
        assert terminal.process.returncode == 0
    assert said(script) == [[("user", "Too long")], [("user", "Short?")]]


def test_revoked_key_ends_the_conversation(script: ScriptedServer) -> None:
    script.answer(CHAT, {"error": {"message": "Incorrect API key."}}, status=401)
    with session("chat", "m", "--base-url", script.base_url, TUNESMITH_API_KEY="key") as terminal:
        terminal.wait_for("you: ")
        terminal.type("Hello")
        assert "Incorrect API key." in terminal.end()
        assert terminal.process.returncode == 5


def test_message_of_several_lines_is_one_question(script: ScriptedServer) -> None:
    script.answer(CHAT, answer("Yes."))
    with session("chat", "m", "--base-url", script.base_url, TUNESMITH_API_KEY="key") as terminal:
        terminal.wait_for("you: ")
        terminal.type('"""Is this')
        terminal.wait_for("...  ")
        terminal.type("  one?")
        terminal.wait_for("...  ")
        terminal.type('/reset it is not"""')
        terminal.wait_for("Yes.")
        terminal.wait_for("you: ")
        terminal.type('"""One line."""')
        terminal.wait_for("Yes.")
    assert said(script)[0] == [("user", "Is this\n  one?\n/reset it is not")]
    assert said(script)[1][-1] == ("user", "One line.")


def test_control_characters_of_an_answer_do_not_reach_the_terminal(script: ScriptedServer) -> None:
    script.answer(CHAT, answer("\x1b]0;title\x07\x1b[2J", "a\tb\nc\u009b31m"))
    arguments = ("chat", "m", "Hi", "--base-url", script.base_url)
    with session(*arguments, TUNESMITH_API_KEY="key", NO_COLOR="1") as terminal:
        shown = terminal.end()
    assert "␛]0;title␇␛[2Ja\tb\nc⟨U+009B⟩31m\n" in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown


def test_conversation_ends_with_the_input(script: ScriptedServer) -> None:
    with session("chat", "m", "--base-url", script.base_url, TUNESMITH_API_KEY="key") as terminal:
        terminal.wait_for("you: ")
        terminal.type("")  # an empty line asks nothing
        terminal.wait_for("you: ")
        os.write(terminal.terminal, b"\x04")
        terminal.end()
        assert terminal.process.returncode == 0
    assert said(script) == []


@pytest.mark.parametrize(("typed", "code", "shown"), [("y", 0, "ft:x is deleted."), ("n", 1, "nothing was changed.")])
def test_deletion_asks_at_a_terminal(script: ScriptedServer, typed: str, code: int, shown: str) -> None:
    script.answer("DELETE /v1/models/ft:x", {"deleted": True})
    with session("models", "delete", "ft:x", "--base-url", script.base_url, TUNESMITH_API_KEY="key") as terminal:
        terminal.wait_for("Delete ft:x and its files for good? [y/N]: ")
        terminal.type(typed)
        assert shown in terminal.end()
        assert terminal.process.returncode == code
    assert ("DELETE /v1/models/ft:x" in script.asked) == (code == 0)


def test_watching_at_a_terminal_draws_a_bar(server: Server, trained: str) -> None:
    with session("jobs", "watch", trained, "--data-dir", str(server.data_dir)) as terminal:
        shown = terminal.end()
        assert terminal.process.returncode == 0
    assert "━" in shown
    assert "2/2" in shown
    assert "loss " in shown
    assert "talk to it:  tunesmith chat ft:" in shown.replace(f"{sys.executable} -m tunesmith.cli", "tunesmith")


def test_interrupt_at_a_terminal_leaves_the_job_alone(script: ScriptedServer) -> None:
    job = {"id": "ftjob-1", "model": "m", "status": "running", "created_at": 5, "training_file": "f"}
    script.answer("GET /v1/fine_tuning/jobs/ftjob-1", job)
    script.answer("GET /v1/fine_tuning/jobs/ftjob-1/events", {"data": []})
    with session("jobs", "watch", "ftjob-1", "--base-url", script.base_url, TUNESMITH_API_KEY="key") as terminal:
        terminal.wait_for("starting the trainer")
        terminal.interrupt()
        assert "Detached; ftjob-1 goes on." in terminal.end()
        assert terminal.process.returncode == 130
    assert not [asked for asked in script.asked if asked.startswith("POST")]


def test_first_key_is_shown_in_a_terminal_once(tmp_path: Path, base_dir: Path) -> None:
    for times in (1, 0):
        serve = ("serve", "--no-worker", "--port", "0", "--exit-when-idle", "1", "--data-dir", str(tmp_path / "data"))
        with session(*serve, COLUMNS="200") as terminal:
            shown = terminal.end()
        assert shown.count((tmp_path / "data" / "api-key").read_text("utf-8").strip()) == times
        assert "base URL" in shown


def test_bar_says_within_three_seconds_that_the_server_was_killed(tmp_path: Path, base_dir: Path) -> None:
    started = start_server(tmp_path / "data", "--no-worker")
    client = Client(started.base_url, started.key)
    file = client.upload(JOKES)
    waiting = client.create_job({"model": "smollm2-135m-instruct", "training_file": file.id})
    client.close()
    watch = ("jobs", "watch", waiting.id, "--base-url", started.base_url, "--data-dir", str(started.data_dir))
    with session(*watch) as terminal:
        terminal.wait_for("checking")
        started.process.kill()
        started.process.wait()
        terminal.wait_for("The server does not answer. Waiting 60 s for it", seconds=3)
        terminal.wait_for("server away", seconds=3)


def test_command_whose_own_server_was_killed_ends_within_three_seconds(tmp_path: Path, base_dir: Path) -> None:
    with session("train", str(JOKES), "--data-dir", str(tmp_path / "data")) as terminal:
        terminal.wait_for("training", seconds=90)
        own = json.loads((tmp_path / "data" / "server.json").read_text("utf-8"))
        killed = time.monotonic()
        os.kill(own["pid"], signal.SIGKILL)
        shown = terminal.end()
        assert time.monotonic() - killed < 3 + 1  # the second is for the end of Python
    assert "The server of this command was killed by signal 9." in shown
    assert "jobs watch ftjob-" in shown
    assert terminal.process.returncode == 3
