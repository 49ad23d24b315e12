"""Faults in a list of messages.

Keys, roles, content, calls, and the order of turns.
"""

from collections.abc import Iterator

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Fault, shorten
from tunesmith.rows.other_shapes.turns import role_of
from tunesmith.rows.tool_faults import are_sound_calls, call_faults, tool_message_faults

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PLAIN_ROLES = ("user", "assistant", "system", "developer")  # need nothing but a role and a content
TEXT_KEYS = ("name", "refusal", "tool_call_id", "reasoning_content")
KEYS = frozenset(("role", "content", "weight", "tool_calls", "function_call", *TEXT_KEYS))
# What clients put into the messages that they keep: openai's `parse()` and stored messages, LangChain, LiteLLM and
# OpenAI-like servers. The content says it all, or it is about the message and not of it.
CLIENT_KEYS = frozenset(
    ("parsed", "annotations", "id", "index", "content_parts", "provider_specific_fields", "cache_control", "prefix")
)
# Of answers that were thought about first. A chat goes on without the thoughts, as at OpenAI; a row would lose them.
REASONING_KEYS = frozenset(("reasoning", "reasoning_details", "reasoning_items", "thinking_blocks"))
REFUSED_PARTS = frozenset(("image_url", "input_image", "image", "input_audio", "file", "input_file", "video_url"))
ONLY_ON = {
    "tool_calls": "assistant",
    "function_call": "assistant",
    "refusal": "assistant",
    "reasoning_content": "assistant",
    "tool_call_id": "tool",
}


def messages_faults(messages: JsonValue, path: str, *, training: bool = True) -> Iterator[Fault]:
    """Faults of one conversation.

    `training` adds what matters only when it is to be learned from.
    """
    if not isinstance(messages, list) or not messages:
        what = "an empty list" if messages == [] else f"{type_name(messages)}, not a list"
        yield Fault("missing_messages", path, f"'{path}' is {what}.", shorten(messages))
        return
    sound = True
    for index, message in enumerate(messages):
        if _is_plain(message):
            continue
        for fault in message_faults(message, f"{path}[{index}]", training=training):
            sound = sound and CODES[fault.code].severity != "error"
            yield fault
    if all(isinstance(message, dict) for message in messages):
        objects: list[JsonObject] = [message for message in messages if isinstance(message, dict)]
        yield from tool_message_faults(objects, path)
        if training and sound:
            yield from order_faults([str(message["role"]) for message in objects], path)


def _is_plain(message: JsonValue) -> bool:
    """The common messages, which need no closer look: a role and a content, a tool's result, calls of tools."""
    if not isinstance(message, dict) or not 1 < len(message) < 4:
        return False
    role, content = message.get("role"), message.get("content")
    if role == "assistant" and "tool_calls" in message:
        return (
            (len(message) == 2 or "content" in message)
            and (content is None or isinstance(content, str))
            and are_sound_calls(message["tool_calls"])
        )
    if not isinstance(content, str) or not content:
        return False
    if len(message) == 3:
        return role == "tool" and isinstance(message.get("tool_call_id"), str)
    return role in PLAIN_ROLES and not content.isspace()


def message_faults(message: JsonValue, path: str, *, training: bool = True) -> Iterator[Fault]:
    """Faults of one message, its place in the conversation aside."""
    if not isinstance(message, dict):
        yield Fault(
            "message_not_object", path, f"The message is {type_name(message)}, not an object.", shorten(message)
        )
        return
    yield from _key_faults(message, path, training=training)
    role = message.get("role")
    if "role" not in message:
        yield Fault("message_missing_key", f"{path}.role", "Discriminator 'role' is missing in value.")
    elif not isinstance(role, str) or role not in ROLES:
        meant = role_of(role)
        fix = f"Write {meant}; `tunesmith fix FILE` does." if meant in ROLES else None
        yield Fault("unrecognized_role", f"{path}.role", f"Role {shorten(role)} is not known.", shorten(role), fix)
        role = meant  # what else is wrong would only mislead
    yield from _content_faults(message, role, path, training=training)
    yield from _field_faults(message, role, path)
    if training and message.get("weight") is not None:
        yield from _weight_faults(message["weight"], role, path)
    yield from call_faults(message, path, training=training)


def _key_faults(message: JsonObject, path: str, *, training: bool) -> Iterator[Fault]:
    for key, value in message.items():  # in their order, so that equal files have equal reports
        if key in KEYS or value is None or value in ([], {}):  # what is empty is as good as absent
            continue
        where = f"{path}.{shorten(key)[1:-1]}"
        if key in CLIENT_KEYS:
            if training:
                yield Fault("key_not_trained", where, f"The key {shorten(key)} is not shown to the model.")
        elif training or key not in REASONING_KEYS:
            yield Fault("message_unrecognized_key", where, f"Unknown key {shorten(key)}.")


def order_faults(roles: list[str], path: str) -> Iterator[Fault]:
    """Warnings on the order of turns; `roles` are known to be valid."""
    turns = [role for role in roles if role not in ("system", "developer")]
    if "system" not in roles and "developer" not in roles:
        yield Fault("no_system", path, "No system message.")
    if "user" not in roles:
        yield Fault("no_user", path, "No user message.")
    started = False
    previous = ""
    for index, role in enumerate(roles):
        if role in ("system", "developer"):
            if started:
                yield Fault("system_not_first", f"{path}[{index}]", f"A {role} message comes after the first turn.")
            continue
        if role == previous and role in ("user", "assistant"):
            yield Fault("role_order", f"{path}[{index}].role", f"Two {role} messages in a row.")
        elif role == "assistant" and not started:
            yield Fault("role_order", f"{path}[{index}].role", "The assistant speaks before the user.")
        started, previous = True, role
    if "assistant" in turns and turns[-1] != "assistant":
        yield Fault("last_not_assistant", f"{path}[{len(roles) - 1}]", f"The row ends with a {turns[-1]} message.")


def _content_faults(message: JsonObject, role: JsonValue, path: str, *, training: bool) -> Iterator[Fault]:
    where = f"{path}.content"
    stands_in = role == "assistant" and any(message.get(key) for key in ("tool_calls", "function_call", "refusal"))
    if "content" not in message:
        if not stands_in:
            yield Fault("message_missing_key", where, "Key 'content' is missing.")
        return
    content = message["content"]
    if content is None:
        if not stands_in:
            yield Fault("missing_content", where, "The content is null.", "null")
    elif isinstance(content, list):
        yield from _part_faults(content, where, stands_in=stands_in)
    elif not isinstance(content, str):
        yield Fault("invalid_content", where, f"The content is {type_name(content)}, not text.", shorten(content))
    elif not training or stands_in:
        return
    elif not content:
        code = "empty_content" if role in ("tool", "function") else "missing_content"
        yield Fault(code, where, "The content is empty.", '""')
    elif role == "assistant" and content.isspace():
        yield Fault("blank_answer", where, "The answer is only white space.", shorten(content))


def _part_faults(parts: list[JsonValue], where: str, *, stands_in: bool) -> Iterator[Fault]:
    if not parts and not stands_in:
        yield Fault("missing_content", where, "The content is an empty list.", "[]")
    for index, part in enumerate(parts):
        path = f"{where}[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in REFUSED_PARTS:
            yield Fault("unsupported_part", f"{path}.type", f"A part of type '{kind}' is not text.", kind)
        elif not isinstance(part, dict) or kind not in ("text", "input_text", "output_text", "refusal"):
            yield Fault("invalid_part", path, "The part is not a text part.", shorten(part))
        elif not isinstance(part.get("refusal" if kind == "refusal" else "text"), str):
            yield Fault("invalid_part", path, f"The part of type '{kind}' holds no text.", shorten(part))


def _field_faults(message: JsonObject, role: JsonValue, path: str) -> Iterator[Fault]:
    for key, owner in ONLY_ON.items():
        if message.get(key) not in (None, []) and role in ROLES and role != owner:
            yield Fault(
                "misplaced_key", f"{path}.{key}", f"A {role} message cannot have '{key}'.", shorten(message[key])
            )
    for key in TEXT_KEYS:
        value = message.get(key)
        if value is not None and not isinstance(value, str):
            yield Fault("invalid_value", f"{path}.{key}", f"'{key}' is {type_name(value)}, not text.", shorten(value))
    for key, owner in (("tool_call_id", "tool"), ("name", "function")):
        if role == owner and message.get(key) is None:
            yield Fault("message_missing_key", f"{path}.{key}", f"Key '{key}' is missing on a {role} message.")
    if isinstance(message.get("name"), str) and role in ("system", "developer", "user", "assistant"):
        yield Fault("name_not_trained", f"{path}.name", "The name is not shown to the model.", shorten(message["name"]))


def _weight_faults(weight: JsonValue, role: JsonValue, path: str) -> Iterator[Fault]:
    if isinstance(weight, bool) or weight not in (0, 1):
        yield Fault("invalid_weight", f"{path}.weight", f"The weight is {shorten(weight)}.", shorten(weight))
    elif role != "assistant" and role in ROLES:
        yield Fault("weight_ignored", f"{path}.weight", f"A {role} message has a weight.", shorten(weight))


def type_name(value: JsonValue) -> str:
    """What a JSON value is, as a user would say it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
