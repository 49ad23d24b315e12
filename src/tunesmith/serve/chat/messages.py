"""The messages of a chat request, and what is wrong with them in a chat's words.

The rules are those of training data (`rows.message_faults`), less what matters only there: a history may hold whatever
a model wrote and a client kept. The sentences differ, as who sends a request has no row to mend.
"""

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Fault
from tunesmith.rows.message_faults import messages_faults
from tunesmith.rows.messages import Message
from tunesmith.rows.row import messages_of
from tunesmith.wire.faults import missing, wrong_type

FIXES = {  # the code of an error that a chat can have -> what to do about it
    "message_not_object": 'Send {"role": "...", "content": "..."}.',
    "message_unrecognized_key": "Remove the key, or check its spelling.",
    "unrecognized_role": "Use one of system, developer, user, assistant, tool and function.",
    "missing_content": "Send the content, or leave the message out.",
    "invalid_content": "Send the content as a string, or as a list of text parts.",
    "unsupported_part": "Models here read text only: leave the part out.",
    "invalid_part": 'Send {"type": "text", "text": "..."}.',
    "invalid_value": "Send a string, or leave the key out.",
    "misplaced_key": "Move it to the right message, or leave it out.",
    "invalid_tool_call": 'Send {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}.',
    "arguments_not_text": "Send them as a string, as they came in the answer.",
    "orphan_tool_message": "Send the assistant message with that call before it.",
}


def read_messages(value: JsonValue) -> tuple[Message, ...]:
    """The messages of a chat request.

    Raises InvalidRequest, which names the first fault's path as `param`.
    """
    if not isinstance(value, list):
        raise wrong_type("messages", "an array of objects", value)
    if not value:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise InvalidRequest(message, param="messages", code="empty_array")
    messages = [_with_content(message) for message in value]
    for fault in messages_faults(messages, "messages", training=False):
        if CODES[fault.code].severity == "error":
            raise message_error(fault)
    return messages_of(messages)


def message_error(fault: Fault) -> InvalidRequest:
    """What is wrong with a message, in a chat's words, the field first."""
    if fault.code == "message_missing_key":
        return missing(fault.path)
    said = f"{fault.message[:1].lower()}{fault.message[1:]}"
    return InvalidRequest(f"Invalid '{fault.path}': {said} {FIXES[fault.code]}", param=fault.path, code=fault.code)


def _with_content(message: JsonValue) -> JsonValue:
    """A stored message has content that came in parts under a key of its own."""
    if isinstance(message, dict) and message.get("content") is None and message.get("content_parts"):
        return {**message, "content": message["content_parts"]}
    return message
