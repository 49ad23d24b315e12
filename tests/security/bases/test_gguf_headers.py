"""A crafted GGUF file is a sentence within a second, before the gguf library reads it."""

import re
import struct
import time
from pathlib import Path

import pytest
from tests.models.conftest import Writer, write_gguf

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf import convert

__all__ = ["write_gguf"]

U32, F32, TEXT, ARRAY = 4, 6, 8, 9
HUGE = (1 << 64) - 1  # -1 for who reads it as signed


def text(value: str, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def tensor(name: str, shape: list[int], start: int, kind: int = 0, dimensions: int | None = None) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", dimensions or len(shape)) + sizes + struct.pack("<IQ", kind, start)


def gguf(keys: list[bytes], tensors: list[bytes], data: int = 64, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join([*keys, *tensors])
    return head + bytes(-len(head) % 32 + data)


CASES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "its header goes on to byte 4"),
    "another file": (b"PK\x03\x04" + bytes(99), "it does not begin as a GGUF file"),
    "a version": (gguf([], [], version=99), "its version is 99"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "its version is 50331648"),
    "counts": (
        b"GGUF" + struct.pack("<IQQ", 3, HUGE, HUGE) + bytes(99),
        "it claims 18,446,744,073,709,551,615 tensors",
    ),
    "a long list": (gguf([key("a", ARRAY, array(U32, 1 << 40))], []), "the list a claims 1,099,511,627,776 items"),
    "a negative list": (gguf([key("a", ARRAY, array(U32, HUGE))], []), "the list a claims 18,446"),
    "many lists": (
        gguf([key(f"a{n}", ARRAY, array(0, 200_000, bytes(200_000))) for n in range(7)], []),
        "the list a6 claims 200,000 items; all lists may have 1,200,000",
    ),
    "a list beyond": (gguf([key("a", ARRAY, array(U32, 500_000))], []), "its header goes on to byte 2,000,0"),
    "texts beyond": (gguf([key("a", ARRAY, array(TEXT, 500_000))], []), "its header goes on to byte"),
    "a nested list": (gguf([key("a", ARRAY, array(ARRAY, 1, array(U32, 0)))], []), "the list a is of the kind 9"),
    "a text beyond": (gguf([key("a", TEXT, text("b", 1 << 50))], []), "its header goes on to byte 1,125,899,906"),
    "a long name": (gguf([text("a", 1 << 30)], []), "a name in it has 1,073,741,824 bytes"),
    "an unknown kind": (gguf([key("a", 77, b"")], []), "the key a is of the unknown kind 77"),
    "a key twice": (gguf([key("a", F32, bytes(4))] * 2, []), "the key a is in it twice"),
    "no alignment": (gguf([key("general.alignment", U32, bytes(4))], []), "its alignment is 0"),
    "an odd alignment": (gguf([key("general.alignment", U32, struct.pack("<I", 33))], []), "its alignment is 33"),
    "a name twice": (gguf([], [tensor("t", [4], 0), tensor("t", [4], 32)]), "two of its tensors have the same name"),
    "outside": (gguf([], [tensor("t", [4], 1 << 40)]), "its tensor t ends at byte 1,099,511"),
    "beyond": (gguf([], [tensor("t", [400], 0)]), "its tensor t ends at byte"),
    "over one another": (gguf([], [tensor("t", [16], 0), tensor("u", [4], 32)]), "its tensor u does not begin where"),
    "not aligned": (gguf([], [tensor("t", [4], 7)]), "its tensor t does not begin where one may, behind the header"),
    "a huge shape": (gguf([], [tensor("t", [HUGE, HUGE], 0)]), "its tensor t has the shape"),
    "an empty shape": (gguf([], [tensor("t", [0], 0)]), "its tensor t has the shape [0]"),
    "dimensions": (gguf([], [tensor("t", [1], 0, dimensions=1 << 31)]), "its tensor t has 2,147,483,648 dimensions"),
    "an unknown tensor": (gguf([], [tensor("t", [4], 0, kind=4711)]), "its tensor t is of the unknown kind 4711"),
    "half a block": (gguf([], [tensor("t", [33], 0, kind=2)]), "its tensor t has rows of 33 values"),
    "cut": (gguf([key("a", TEXT, text("b" * 99))], [])[:60], "its header goes on to byte"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_crafted_header_is_a_sentence_at_once(case: str, tmp_path: Path) -> None:
    data, said = CASES[case]
    path = tmp_path / "crafted.gguf"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(InvalidRequest) as caught:
        convert(path, tmp_path)
    assert time.process_time() - start < 1
    assert caught.value.message.startswith(f"crafted.gguf cannot be converted: {said}")
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"llama__attention__head_count": 0}, "keys fit no model that is read: attention.head_count is 0"),
        ({"llama__attention__head_count": 3}, "blk.0.attn_q.weight has the shape [8, 8], and its keys say [6, 8]"),
        ({"tokenizer__ggml__bos_token_id": 99}, "has 11 tokens, and its special tokens have ids up to 99"),
        ({"tokenizer__ggml__token_type": [1]}, "tiny.gguf cannot be converted: its keys and tensors do not fit"),
    ],
    ids=str,
)
def test_keys_that_do_not_fit_are_a_sentence(
    changes: dict[str, object], said: str, write_gguf: Writer, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        convert(write_gguf(**changes), made)


def test_a_sound_file_is_converted(write_gguf: Writer, tmp_path: Path) -> None:
    convert(write_gguf(), tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
