"""The system message that a model was trained with, as its server tells it."""

from contextlib import suppress

from tunesmith.cli.output.terminal import shortened
from tunesmith.client import Client, ServerRefused
from tunesmith.errors import TunesmithError

SHOWN_CHARS = 120


def system_message_of(client: Client, model: str) -> str | None:
    """The system message of most rows of the model's training file; None for none.

    Raises ServerRefused where the model does not exist.
    """
    try:
        return client.model(model).tunesmith.system_message
    except ServerRefused as refused:
        if refused.code or refused.status_code not in (404, 405):
            raise
        return None  # a server that is not ours and does not tell of models


def shown_system_message(client: Client, model: str | None) -> str | None:
    """The message on one line, in quotes.

    None where there is none or it cannot be had.
    """
    with suppress(TunesmithError):
        if model and (found := system_message_of(client, model)):
            return shortened(found, SHOWN_CHARS)
    return None
