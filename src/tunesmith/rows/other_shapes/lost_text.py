"""Text beside a conversation that a row of ours would lose.

Not covered: a few words under a key that no tool uses for what a row teaches. They are taken for metadata.
"""

import re
from collections.abc import Iterator, Mapping

from tunesmith.jsonvalue import JsonValue

# Keys under which even one word may be what the row teaches; `pairs` has more on most of them.
SPEAKERS = frozenset(
    (
        *(
            "instruction",
            "instructions",
            "prompt",
            "input",
            "inputs",
            "input_text",
            "text_input",
            "question",
            "questions",
        ),
        *("query", "human", "request", "problem", "user_input", "user_prompt", "choices", "options", "history"),
        *("output", "outputs", "output_text", "text_output", "response", "responses", "completion", "completions"),
        *("answer", "answers", "final_answer", "correct_answer", "reference_answer", "ground_truth", "solution"),
        *("target", "targets", "target_text", "tgt", "ideal", "expected", "expected_output", "label_text"),
        *("assistant", "bot", "gpt", "text", "content", "message", "messages", "conversation", "conversations"),
        *("dialogue", "context", "passage", "document", "article", "summary", "translation", "explanation"),
        *("rationale", "system", "system_prompt", "system_message", "preamble"),
    )
)
# Whatever is in them: notes about a row, and what clients put into messages.
METADATA = frozenset(
    (
        *("metadata", "meta", "usage", "logprobs", "parsed", "annotations", "content_parts"),
        *("provider_specific_fields", "cache_control"),
    )
)
_INSIDE = frozenset(("role", "from", "type", "id", "name", "model", "object", "finish_reason"))  # of a speaker's value
WORDS = 12  # more than these are no name, tag or title
LETTERS = 40  # the same for a text in another script, which may have no blanks
SURE = 8  # characters; a shorter text must stand in the row as words of its own


def is_lost(key: str, value: JsonValue, kept: JsonValue) -> bool:
    """Whether `value`, under `key`, has text that is not in `kept`."""
    if key in METADATA:
        return False
    found = [text for text in _texts(value) if key in SPEAKERS or _is_long(text)]
    if not found:
        return False
    said = "\n".join(_texts(kept))
    return any(not _is_said(text, said) for text in found)


def _texts(value: JsonValue) -> Iterator[str]:
    """Every text and number inside a value, its blanks made alike."""
    if isinstance(value, str):
        if value := " ".join(value.split()):
            yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if key not in _INSIDE:
                yield from _texts(one)


def _is_long(text: str) -> bool:
    return text.count(" ") >= WORDS or (len(text) > LETTERS and not text.isascii())


def _is_said(text: str, said: str) -> bool:
    if len(text) >= SURE:
        return text in said
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said) is not None
