"""`tunesmith chat MODEL`: one question, or a conversation."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import BaseUrl, DataDir, named
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.client import Client


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """The options of `tunesmith chat`."""

    model: Annotated[
        str,
        typer.Argument(
            help="Tuned model, base model or alias; 'last' for the newest tuned model.",
            metavar="MODEL",
            show_default=False,
            callback=named,
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
    system: Annotated[
        str | None,
        typer.Option(
            help="System message. Default: for a tuned model the one that most of its training rows have.",
            show_default=False,
        ),
    ] = None
    no_system: Annotated[bool, typer.Option("--no-system", help="Send no system message.")] = False
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 always takes the likeliest word; 1 is the API's default.")
    ] = 0.2
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.", show_default=False)] = None
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.", show_default=False)] = None
    base_url: BaseUrl = None
    data_dir: DataDir = None

    def sampling(self) -> dict[str, object]:
        """The fields of a chat request that say how to sample."""
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": self.seed}
        return {name: value for name, value in given.items() if value is not None}


@takes(ChatOptions)
def chat(options: ChatOptions) -> None:
    """Talk to a model; answers appear as they are generated.

    In a conversation, /reset starts over, /system TEXT sets the system message (alone: none), three double quotes
    begin and end a message of several lines, and /quit or Ctrl-D ends. Ctrl-C stops an answer.
    """
    from tunesmith.cli.bases import require_no_path
    from tunesmith.cli.chat.conversation import Conversation, converse
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.names import naming_models
    from tunesmith.cli.server.find import connect

    message, settings = _message(options), load_settings(options.data_dir)
    require_no_path(options.model, settings)
    with connect(settings, options.base_url) as connection:
        client = connection.client
        model = _newest(client) if options.model == "last" else options.model
        with naming_models(client, model):
            system = _system(client, model, options)
            history = [{"role": "system", "content": system}] if system else []
            conversation = Conversation(client, model, options.sampling(), history, connection.activity)
            if message == "":
                client.model(model)  # says first that it does not exist
                raise CommandError("stdin is empty. Give a message: tunesmith chat MODEL 'How are you?'")
            if message is not None:
                conversation.ask(message)
            else:
                converse(conversation)


def _message(options: ChatOptions) -> str | None:
    """The message given, or piped to stdin, which may be empty; None: a conversation."""
    if options.system is not None and options.no_system:
        raise CommandError("--system and --no-system contradict each other; give one of them.", Exit.USAGE)
    if options.message is not None or sys.stdin.isatty():
        return options.message
    return sys.stdin.read().strip()


def _system(client: "Client", model: str, options: ChatOptions) -> str | None:
    """The system message to send: the one given, else the training file's."""
    from tunesmith.cli.chat.system_message import SHOWN_CHARS, system_message_of
    from tunesmith.cli.output.terminal import note, shortened

    if options.no_system or options.system is not None:
        return options.system
    found = system_message_of(client, model)
    if found:
        note(
            f"Using the system message of the training file: {shortened(found, SHOWN_CHARS)}"
            " (--system to change, --no-system for none)"
        )
    return found


def _newest(client: "Client") -> str:
    tuned = [model for model in client.models() if model.id.startswith("ft:") and ":ckpt-step-" not in model.id]
    if not tuned:
        raise CommandError("There are no tuned models yet. Make one: tunesmith train FILE")
    return max(tuned, key=lambda model: model.created).id
