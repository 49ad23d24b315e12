"""`tunesmith chat MODEL`: one question, or a conversation."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.options import BaseUrl, DataDir
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.client import Client

HELP = "/reset starts over, /system TEXT sets the system message, /exit or Ctrl-D ends"


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """The options of `tunesmith chat`."""

    model: Annotated[
        str,
        typer.Argument(
            help="Tuned model, base model or alias; 'last' for the newest tuned model.",
            metavar="MODEL",
            show_default=False,
        ),
    ]
    message: Annotated[
        str | None,
        typer.Argument(
            help="One message. Without it: a conversation, or the text piped to stdin.",
            metavar="MESSAGE",
            show_default=False,
        ),
    ] = None
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 is greedy; the server's default is 1.", show_default=False)
    ] = None
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.", show_default=False)] = None
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.", show_default=False)] = None
    base_url: BaseUrl = None
    data_dir: DataDir = None

    def sampling(self) -> dict[str, object]:
        """The fields of a chat request that were given."""
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": self.seed}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(slots=True)
class Conversation:
    """A model, what has been said to it, and how it samples."""

    client: "Client"
    model: str
    sampling: dict[str, object]
    history: list[dict[str, str]]

    def ask(self, message: str) -> None:
        """Prints the answer as it comes; if it is interrupted, the question is forgotten."""
        self.history.append({"role": "user", "content": message})
        pieces = []
        try:
            for piece in self.client.chat(self.model, self.history, **self.sampling):
                pieces.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
        except BaseException:
            self.history.pop()
            raise
        sys.stdout.write("\n")
        self.history.append({"role": "assistant", "content": "".join(pieces)})


@takes(ChatOptions)
def chat(options: ChatOptions) -> None:
    """Talk to a model; answers appear as they are generated."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.server.find import connect

    message = _message(options)
    history = [{"role": "system", "content": options.system}] if options.system else []
    with connect(load_settings(options.data_dir), options.base_url) as connection:
        model = _newest(connection.client) if options.model == "last" else options.model
        conversation = Conversation(connection.client, model, options.sampling(), history)
        if message is not None:
            conversation.ask(message)
        else:
            _converse(conversation)


def _message(options: ChatOptions) -> str | None:
    """The message given, or piped to stdin; None: a conversation."""
    if options.message is not None or sys.stdin.isatty():
        return options.message
    message = sys.stdin.read().strip()
    if not message:
        raise CommandError("stdin is empty. Give a message: tunesmith chat MODEL 'How are you?'")
    return message


def _converse(conversation: Conversation) -> None:
    from tunesmith.cli.output.terminal import note

    _enable_line_editing()
    note(f"{conversation.model}. {HELP}.")
    while True:
        try:
            said = input("\nyou: ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)  # noqa: T201 - ends the prompt's line
            return
        if said.startswith("/"):
            if not _command(said, conversation.history):
                return
        elif said:
            try:
                conversation.ask(said)
            except KeyboardInterrupt:
                note("\n(stopped; the question is forgotten)")


def _command(said: str, history: list[dict[str, str]]) -> bool:
    """Carries out a /command; returns False to end the conversation."""
    from tunesmith.cli.output.terminal import note

    name, _, rest = said.partition(" ")
    if name in ("/exit", "/quit"):
        return False
    if name == "/reset":
        history[:] = [message for message in history if message["role"] == "system"]
        note("(forgotten)")
    elif name == "/system":
        history[:] = [{"role": "system", "content": rest.strip()}] if rest.strip() else []
        note("(new conversation)")
    else:
        note(f"{HELP}.")
    return True


def _newest(client: "Client") -> str:
    tuned = [model for model in client.models() if model.id.startswith("ft:") and ":ckpt-step-" not in model.id]
    if not tuned:
        raise CommandError("There are no tuned models yet. Make one: tunesmith train FILE")
    return max(tuned, key=lambda model: model.created).id


def _enable_line_editing() -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() arrows and history
