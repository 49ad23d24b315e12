"""A conversation with a model at a terminal, and its /commands."""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tunesmith.cli.output.terminal import complain, note, visible
from tunesmith.cli.output.waiting import Waiting, nothing_known
from tunesmith.client import Client, ServerRefused

COMMANDS = (
    "/reset starts over, /system TEXT sets the system message (alone: none),"
    ' """ begins and ends a message of several lines, /quit or Ctrl-D ends'
)
QUOTES = '"""'


@dataclass(slots=True)
class Conversation:
    """A model, what has been said to it, and how it samples.

    `detail` tells what an answer is waiting for, where that is known.
    """

    client: Client
    model: str
    sampling: dict[str, object]
    history: list[dict[str, str]]
    detail: Callable[[], str | None] = nothing_known

    def ask(self, message: str) -> None:
        """Prints the answer as it comes.

        If it is interrupted or refused, the question is forgotten.
        """
        self.history.append({"role": "user", "content": message})
        pieces = []
        try:
            answer = self.client.chat(self.model, self.history, **self.sampling)
            with Waiting("waiting for the model", self.detail):
                piece = next(answer, "")
            while piece:
                pieces.append(piece)
                _show(piece)
                piece = next(answer, "")
        except BaseException:
            self.history.pop()
            raise
        _show("\n")
        self.history.append({"role": "assistant", "content": "".join(pieces)})

    def start_over(self) -> None:
        """Forgets everything but the system message."""
        self.history[:] = [message for message in self.history if message["role"] == "system"]

    def set_system(self, text: str) -> None:
        """Starts over with this system message, or without one."""
        self.history[:] = [{"role": "system", "content": text}] if text else []


def converse(conversation: Conversation) -> None:
    """Asks what is typed until the input ends.

    A refused question does not end the conversation.
    """
    _enable_line_editing()
    note(f"{conversation.model}. {COMMANDS}.")
    while (said := _typed()) is not None:
        if said.startswith("/"):
            if not _command(said, conversation):
                return
        elif said:
            _ask(conversation, said)


def _ask(conversation: Conversation, said: str) -> None:
    try:
        conversation.ask(said)
    except KeyboardInterrupt:
        note("\n(stopped; the question is forgotten)")
    except ServerRefused as refused:
        if refused.status_code in (401, 403) or refused.code == "model_not_found":
            raise  # no other question would be answered either
        complain(refused.message)
        note("(the question is forgotten; the conversation goes on)")


def _typed() -> str | None:
    """A message, of several lines between two QUOTES; None at the end of the input."""
    try:
        said = input("\nyou: ").strip()
        if not said.startswith(QUOTES):
            return said
        lines = [said.removeprefix(QUOTES)]
        while not lines[-1].rstrip().endswith(QUOTES):
            lines.append(input("...  "))
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)  # noqa: T201 - ends the prompt's line
        return None
    return "\n".join(lines).rstrip().removesuffix(QUOTES).strip()


def _command(said: str, conversation: Conversation) -> bool:
    """Carries out a /command; returns False to end the conversation."""
    name, _, rest = said.partition(" ")
    if name in ("/exit", "/quit"):
        return False
    if name == "/reset":
        conversation.start_over()
        note("(forgotten)")
    elif name == "/system":
        conversation.set_system(rest.strip())
        note("(new conversation)")
    else:
        note(f"{COMMANDS}.")
    return True


def _show(text: str) -> None:
    """Writes a piece of an answer: as it is into a file or pipe, harmless on a terminal."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _enable_line_editing() -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() arrows and history
