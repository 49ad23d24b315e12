"""Token counts in OpenAI's encodings, offline.

The rule that reproduces the service's own `trained_tokens`: for each example, over its messages,
3 + tokens(role) + tokens(content), plus 1. (The published checker adds 3 per example, which is 2 too many.)

Not published, and so only near: what a name (here 1 + its tokens), a tool call (its name and arguments) or a
declared tool (its JSON) costs.
"""

from collections.abc import Sequence

import toktok

from tunesmith.errors import InvalidRequest

DEFAULT_ENCODING = "cl100k_base"
ENCODINGS = ("cl100k_base", "o200k_base")
PER_MESSAGE = 3
PER_EXAMPLE = 1
PER_NAME = 1
PER_ROLE = 1  # every role is one token in both encodings

_O200K_MODELS = ("gpt-4o", "gpt-4.1", "gpt-5", "o1", "o3", "o4")


def count_tokens(texts: Sequence[str], encoding: str = DEFAULT_ENCODING, threads: int = 0) -> list[int]:
    """Tokens of each text; special tokens are read as plain text.

    `threads` 0 takes every core.
    """
    if encoding not in ENCODINGS:
        raise InvalidRequest(f"Encoding '{encoding}' is not one of {', '.join(ENCODINGS)}.", param="encoding")
    counts: list[int] = toktok.batch_count(texts, encoding, threads=threads)
    return counts


def encoding_for(model: str) -> str:
    """The encoding that OpenAI uses for one of its models.

    Tuned (`ft:gpt-4o-mini...`) or not.
    """
    name = model.removeprefix("ft:")
    return "o200k_base" if name.startswith(_O200K_MODELS) else DEFAULT_ENCODING
