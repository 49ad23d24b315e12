"""Of how many parts a JSON body may be, counted before it is parsed.

A parser holds the interpreter, and with it everybody else's requests, for as long as the objects take that it makes:
0.1 s for 300,000 different names, or for 100,000 objects. Its bytes cost next to nothing, so a long text may come.
"""

from dataclasses import dataclass

from tunesmith.errors import RequestTooLarge

MAX_LISTS = 50_000  # with objects
MAX_TEXTS = 100_000  # with names: 25,000 messages have as many
MAX_ENTRIES = 300_000  # 128 prompts of 2,048 tokens as numbers are fewer
FEWEST_BYTES = MAX_LISTS  # of a body that could have too many


@dataclass(frozen=True, slots=True)
class Parts:
    """What a body is made of; marks inside its texts are no part of it."""

    lists: int
    texts: int
    entries: int

    @property
    def too_many(self) -> bool:
        """Whether the parser would hold up everybody."""
        return self.lists > MAX_LISTS or self.texts > MAX_TEXTS or self.entries > MAX_ENTRIES


def check_parts(body: bytes) -> None:
    """Raises RequestTooLarge for a body whose parsing would hold up everybody."""
    if len(body) > FEWEST_BYTES and parts_of(body).too_many:
        raise RequestTooLarge(
            f"The request body has more than {MAX_LISTS:,} lists and objects, {MAX_TEXTS:,} texts and names, or "
            f"{MAX_ENTRIES:,} commas. Send less in one request.",
            code="request_too_large",
        )


def parts_of(body: bytes) -> Parts:
    """The parts of a body, or more of them.

    Texts are told apart only where the answer turns on it. Of a body that is no JSON the number says little, which
    matters to nobody: the parser stops at its fault.
    """
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    texts = (plain.count(b'"') + 1) // 2
    found = _marks(plain, texts)
    if not found.too_many or texts > MAX_TEXTS:
        return found
    return _marks(b"".join(plain.split(b'"')[::2]), texts)


def _marks(text: bytes, texts: int) -> Parts:
    return Parts(text.count(b"[") + text.count(b"{"), texts, text.count(b","))
