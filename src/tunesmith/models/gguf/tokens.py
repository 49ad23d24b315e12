"""What the tokens of a GGUF vocabulary are."""

from tunesmith.jsonvalue import JsonObject

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # GGUF's token_type; 3 is that of special tokens
ADDED = (CONTROL, USER_DEFINED)


def added_token(index: int, content: str, *, special: bool = True, normalized: bool = False) -> JsonObject:
    """The token as tokenizer.json lists those that are never cut."""
    return {
        "id": index,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": normalized,
        "special": special,
    }
