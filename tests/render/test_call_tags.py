"""Bases that have the tags of calls and of thinking as tokens: they are used, and shown as text."""

from pathlib import Path

import pytest
from tests.render.bases import make_base
from tokenizers import Tokenizer

from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.messages import Message, ToolCall
from tunesmith.rows.row import ChatRow

# Names the tags and writes no calls, so they are written as ours.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.replace('<tool_call></tool_call>', '') }}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
ROW = ChatRow(
    (
        Message("user", "<tool_call>"),
        Message("assistant", "So:", tool_calls=(ToolCall("c", "time", '{"zone": "UTC"}'),)),
    )
)


@pytest.fixture(scope="module", params=["special", "plain"])
def directory(request: pytest.FixtureRequest, base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("tags") / "base"
    named = TAGS if request.param == "special" else ()
    return make_base(base_dir, target, TEMPLATE, special=named, plain=() if named else TAGS)


@pytest.fixture
def tagged(directory: Path) -> Renderer:
    return load_renderer(directory)


def test_a_call_is_learned_with_the_bases_own_tokens(tagged: Renderer, directory: Path) -> None:
    rendered = tagged.row(ROW)
    learned = [token for token, weight in zip(rendered.ids, rendered.weights, strict=True) if weight]
    theirs = Tokenizer.from_file(str(directory / "tokenizer.json"))
    text = 'So:\n<tool_call>\n{"name": "time", "arguments": {"zone": "UTC"}}\n</tool_call><|im_end|>'
    assert learned == theirs.encode(text, add_special_tokens=False).ids
    assert [theirs.id_to_token(token) for token in learned].count("<tool_call>") == 1


def test_a_question_cannot_write_the_token(tagged: Renderer, directory: Path) -> None:
    tag = Tokenizer.from_file(str(directory / "tokenizer.json")).token_to_id("<tool_call>")
    assert tag not in tagged.prompt(ROW.messages[:1])


def test_an_answer_of_these_tokens_is_shown_and_read_as_a_call(tagged: Renderer) -> None:
    rendered = tagged.row(ROW)
    learned = [token for token, weight in zip(rendered.ids, rendered.weights, strict=True) if weight]
    text = tagged.decode(learned)
    assert text.startswith("So:\n<tool_call>\n")
    parsed = tagged.parse(text)
    assert (parsed.content, [(one.name, one.arguments) for one in parsed.calls]) == (
        "So:",
        [("time", '{"zone": "UTC"}')],
    )


def test_tags_of_thinking_are_shown(tagged: Renderer, directory: Path) -> None:
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode("<think>hm</think>x<|im_end|>").ids
    assert tagged.decode(ids) == "<think>hm</think>x"


def test_the_real_base_has_no_such_tokens_and_spells_them(renderer: Renderer) -> None:
    rendered = renderer.row(ROW)
    text = 'So:\n<tool_call>\n{"name": "time", "arguments": {"zone": "UTC"}}\n</tool_call>'
    learned = [token for token, weight in zip(rendered.ids, rendered.weights, strict=True) if weight]
    assert learned[:-1] == renderer.encode(text)
