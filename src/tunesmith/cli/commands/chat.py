"""`tunesmith chat MODEL`: one question, or a conversation."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.options import BaseUrl, DataDir

if TYPE_CHECKING:
    from tunesmith.client import Client

HELP = "/reset forgets the conversation, /system TEXT sets the system message, /exit or Ctrl-D ends"


def chat(
    model: Annotated[
        str,
        typer.Argument(
            help="Tuned model, base or alias; 'last' for the newest tuned model.", metavar="MODEL", show_default=False
        ),
    ],
    message: Annotated[
        str | None,
        typer.Argument(
            help="One message; without it a conversation, or stdin when it is piped.",
            metavar="MESSAGE",
            show_default=False,
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 is greedy; the server's default is 1.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.", show_default=False)] = None,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Talk to a model; answers appear as they are made."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.server.find import connect

    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read().strip()
        if not message:
            raise CommandError("stdin is empty. Give a message: tunesmith chat MODEL 'How are you?'")
    given = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    options: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    history = [{"role": "system", "content": system}] if system else []
    with connect(load_settings(data_dir), base_url) as connection:
        name = _newest(connection.client) if model == "last" else model
        if message is not None:
            _answer(connection.client, name, [*history, {"role": "user", "content": message}], options)
        else:
            _converse(connection.client, name, history, options)


def _converse(client: "Client", model: str, history: list[dict[str, str]], options: dict[str, object]) -> None:
    from tunesmith.cli.output.terminal import note

    _enable_line_editing()
    note(f"{model}. {HELP}.")
    while True:
        try:
            said = input("\nyou: ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)  # noqa: T201 - ends the prompt's line
            return
        if not said:
            continue
        if said.startswith("/"):
            if not _command(said, history):
                return
            continue
        history.append({"role": "user", "content": said})
        try:
            history.append({"role": "assistant", "content": _answer(client, model, history, options)})
        except KeyboardInterrupt:
            history.pop()
            note("\n(stopped; the question is forgotten)")


def _command(said: str, history: list[dict[str, str]]) -> bool:
    """Carries out a /command; False: end the conversation."""
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


def _answer(client: "Client", model: str, messages: list[dict[str, str]], options: dict[str, object]) -> str:
    """Prints the answer as it comes; returns it."""
    pieces = []
    for piece in client.chat(model, messages, **options):
        pieces.append(piece)
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(pieces)


def _newest(client: "Client") -> str:
    tuned = [model for model in client.models() if model.id.startswith("ft:") and ":ckpt-step-" not in model.id]
    if not tuned:
        raise CommandError("There are no tuned models yet. Make one: tunesmith train FILE")
    return max(tuned, key=lambda model: model.created).id


def _enable_line_editing() -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() arrows and history
