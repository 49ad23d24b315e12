"""Tokens -> bytes -> text, one token at a time.

A character of several tokens is held back until it is complete.
"""

import codecs
import json
from collections.abc import Sequence

from tokenizers import Tokenizer

from tunesmith.jsonvalue import JsonValue


class Detokenizer:
    """Turns tokens into text, as soon as it is certain.

    Special tokens give none. The joined pieces equal decoding all tokens at once.
    """

    def __init__(self, table: Sequence[bytes], special: frozenset[int]) -> None:
        self._table = table
        self._special = special
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """The text that a token completes."""
        unseen = token in self._special or token >= len(self._table)  # weights may have more tokens than a tokenizer
        return "" if unseen else self._decoder.decode(self._table[token])

    def flush(self) -> str:
        """Returns what is left: U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def token_bytes_table(tokenizer: Tokenizer, decoder: JsonValue, size: int) -> list[bytes]:
    """The bytes of every token id below `size`.

    Knows byte-level BPE (GPT-2's alphabet) and SentencePiece's `▁` and `<0xNN>`. `decoder`: that of tokenizer.json.
    """
    spelled = _gpt2_bytes if '"ByteLevel"' in json.dumps(decoder) else _sentencepiece_bytes
    table = [spelled(tokenizer.id_to_token(index) or "") for index in range(size)]
    for index, token in tokenizer.get_added_tokens_decoder().items():
        table[index] = token.content.encode()
    return table


def _gpt2_bytes(token: str) -> bytes:
    return token.translate(_GPT2_TABLE).encode("latin-1", "ignore")  # what is not of the alphabet spells nothing


def _sentencepiece_bytes(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def _gpt2_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte (the inverse of its `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + offset): byte for offset, byte in enumerate(others)}


_GPT2_TABLE: dict[int, int | None] = {
    **dict.fromkeys(range(256)),
    **{ord(character): byte for character, byte in _gpt2_alphabet().items()},
}
