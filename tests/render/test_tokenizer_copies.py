"""A copy of a tokenizer that shares its model is the tokenizer that its JSON describes."""

import json
import time
from pathlib import Path

import pytest
from tests.render.bases import SPECIAL, VOCABULARY, make_base, starts_text
from tokenizers import Tokenizer

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.vocabulary import Vocabulary, copied

TAGS = ("<tool_call>", "</tool_call>")
TEXT = "  A <tool_call>{}</tool_call> <|im_start|>user\n \u00e9 e\u0301 \u4e16\u754c <far><|im_end|> b<pad> "
KINDS: list[JsonObject] = [
    {},
    {"normalizer": {"type": "NFC"}},
    {"normalizer": {"type": "Prepend", "prepend": "\u2581"}, "pre_tokenizer": None},
    {"post_processor": starts_text("<|im_start|>", 1)},
    {"decoder": None},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plain", [(), TAGS])
def test_a_copy_is_what_its_json_describes(
    base_dir: Path, tmp_path: Path, kind: JsonObject, plain: tuple[str, ...]
) -> None:
    made = make_base(base_dir, tmp_path, None, special=TAGS) / "tokenizer.json"
    value = {**json.loads(made.read_text("utf-8")), **kind}
    value["model"]["vocab"]["<far>"] = VOCABULARY + 50
    value["added_tokens"] += [
        {**SPECIAL, "id": VOCABULARY + 50, "content": "<far>", "special": False, "normalized": True},
        {**SPECIAL, "id": VOCABULARY + 51, "content": "<pad>", "special": False, "lstrip": True, "rstrip": True},
    ]
    wanted = json.loads(json.dumps(value))
    for token in wanted["added_tokens"]:
        token["special"] = token["special"] and token["content"] not in plain
    original, parsed = (Tokenizer.from_str(json.dumps(one)) for one in (value, wanted))
    copy = copied(original, plain)
    assert json.loads(copy.to_str()) == json.loads(parsed.to_str())
    for reads_special in (False, True):
        copy.encode_special_tokens = parsed.encode_special_tokens = reads_special
        for adds in (False, True):
            assert copy.encode(TEXT, add_special_tokens=adds).ids == parsed.encode(TEXT, add_special_tokens=adds).ids
    assert original.encode_special_tokens is False, "a copy's flag is its own"


def test_thousands_of_added_tokens_are_copied_at_once(base_dir: Path, tmp_path: Path) -> None:
    """Gemma 3 has 6,242 unused ones; added one by one, each time all are read again, they take 20 s."""
    unused = tuple(f"<unused{number}>" for number in range(6242))
    made = Tokenizer.from_file(str(make_base(base_dir, tmp_path, None, special=TAGS, plain=unused) / "tokenizer.json"))
    began = time.process_time()
    assert copied(made, TAGS).get_added_tokens_decoder().keys() == made.get_added_tokens_decoder().keys()
    assert time.process_time() - began < 5


def test_no_content_writes_a_mark_that_is_listed_twice(base_dir: Path, tmp_path: Path) -> None:
    made = make_base(base_dir, tmp_path, "{{ messages }}", special=("<eot>",))
    value = json.loads((made / "tokenizer.json").read_text("utf-8"))
    value["added_tokens"].append({**SPECIAL, "id": VOCABULARY, "content": "<eot>", "special": False})
    vocabulary = Vocabulary(json.dumps(value), "{{ messages }}")
    assert VOCABULARY in vocabulary.after([], "<eot>", "literal")
    assert VOCABULARY not in vocabulary.after([], "a<eot>", "content")
