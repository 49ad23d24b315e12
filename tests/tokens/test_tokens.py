"""OpenAI's counting rule, and the encodings behind it."""

import json
from pathlib import Path

import pytest

from tunesmith.check.file_check import check_file
from tunesmith.errors import InvalidRequest
from tunesmith.rows.message_faults import ROLES
from tunesmith.tokens import ENCODINGS, PER_ROLE, count_tokens, encoding_for

ROW = '{"messages": [{"role": "user", "content": "hello world"}, {"role": "assistant", "content": "hi"}]}\n'


def test_openai_rule_adds_three_per_message_and_one_per_example(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(ROW * 10)
    # 3 + user(1) + "hello world"(2), 3 + assistant(1) + "hi"(1), + 1 = 12
    assert check_file(path).openai.tokens == 120


def test_special_token_text_is_counted_as_text() -> None:
    assert count_tokens(["<|endoftext|>"]) > count_tokens([""])
    assert count_tokens(["<|endoftext|>"])[0] > 1


def test_unknown_encoding_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="p50k_base"):
        count_tokens(["x"], "p50k_base")


def test_encoding_follows_the_model_name() -> None:
    assert encoding_for("gpt-3.5-turbo-0613") == "cl100k_base"
    assert encoding_for("ft:gpt-4o-mini-2024-07-18:acme::abc") == "o200k_base"


@pytest.mark.parametrize("encoding", ["cl100k_base", "o200k_base"])
def test_counts_equal_those_of_tiktoken_on_a_multilingual_corpus(encoding: str) -> None:
    vectors = json.loads((Path(__file__).parent / "vectors" / "tiktoken.json").read_text(encoding="utf-8"))["rows"]
    assert len(vectors) > 40
    assert count_tokens([row["text"] for row in vectors], encoding) == [row[encoding] for row in vectors]


def test_every_role_is_one_token_in_both_encodings() -> None:
    for encoding in ENCODINGS:
        assert count_tokens(ROLES, encoding) == [PER_ROLE] * len(ROLES)
