"""The text of one choice, from tokens that a model might have written."""

from typing import Literal

import pytest

from tunesmith.render.renderer import Renderer
from tunesmith.serve.chat.text import ChoiceText, TextPart
from tunesmith.serve.engine.grammar import Grammars
from tunesmith.serve.engine.protocol import Delta

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "武汉"}}\n</tool_call>'


def parts(renderer: Renderer, text: str, *, stops: tuple[str, ...] = (), with_tools: bool = False) -> list[TextPart]:
    """`text` token by token, then the end of the turn; as `serve.chat.answer` feeds it."""
    choice = ChoiceText(renderer, stops, with_tools=with_tools)
    ids = renderer.encode(text)
    deltas = [Delta(0, token, -0.5) for token in ids] + [Delta(0, min(renderer.eos_ids), -0.1, finish="stop")]
    collected = [choice.add(delta) for delta in deltas if not choice.finished]
    assert choice.finished
    return collected


def shown(collected: list[TextPart]) -> str:
    return "".join(part.text for part in collected)


@pytest.mark.parametrize("text", ["Hello there, friend.", "武汉的冬天🥶冷", "\n\nTwo breaks\n", ""])
def test_text_comes_back_whole_and_never_with_broken_characters(renderer: Renderer, text: str) -> None:
    collected = parts(renderer, text)
    assert shown(collected) == text
    assert "\ufffd" not in shown(collected)
    assert collected[-1].finish == "stop"


@pytest.mark.parametrize("with_tools", [False, True])
@pytest.mark.parametrize("finish", ["length", "stop"])
def test_a_character_that_is_not_whole_at_the_end_is_left_out(
    renderer: Renderer, finish: Literal["length", "stop"], with_tools: bool
) -> None:
    whole = renderer.encode("Cold 🥶")
    shown_at = [renderer.decode(whole[: length + 1]).rstrip("\ufffd") for length in range(len(whole))]
    assert shown_at[-2] == shown_at[-3] == "Cold "  # the character has three tokens
    for length, text in enumerate(shown_at, start=1):
        choice = ChoiceText(renderer, (), with_tools=with_tools)
        deltas = [Delta(0, token, -0.5) for token in whole[:length]]
        if finish == "length":
            deltas[-1] = Delta(0, whole[length - 1], -0.5, finish="length")
        else:
            deltas.append(Delta(0, min(renderer.eos_ids), finish="stop"))
        collected = [choice.add(delta) for delta in deltas]
        assert shown(collected) == text
        tokens = [delta.token for part in collected for _, delta in part.tokens]
        assert tokens == whole[:length]


def test_a_stop_string_hides_its_tokens_and_their_logprobs(renderer: Renderer) -> None:
    collected = parts(renderer, "One two three four", stops=("o three",))
    assert shown(collected) == "One tw"
    assert collected[-1].finish == "stop"
    tokens = [delta.token for part in collected for _, delta in part.tokens]
    assert renderer.decode(tokens) == "One two"  # the token that the stop string begins in is partly visible


def test_every_visible_token_has_its_logprob_once(renderer: Renderer) -> None:
    collected = parts(renderer, "Snow 🥶 falls\n\non Wuhan", stops=("\n\n\n",))
    tokens = [delta.token for part in collected for _, delta in part.tokens]
    assert tokens == renderer.encode("Snow 🥶 falls\n\non Wuhan")


def called(collected: list[TextPart]) -> list[tuple[str, str]]:
    """(name, arguments) of each call, from its pieces."""
    calls: list[tuple[str, str]] = []
    for call in [call for part in collected for call in part.calls]:
        if call.name is not None:
            calls.append((call.name, ""))
        calls[call.index] = (calls[call.index][0], calls[call.index][1] + call.arguments)
    return calls


def test_a_tool_call_is_read_and_never_shown(renderer: Renderer) -> None:
    collected = parts(renderer, f"Let me look.\n{CALL}", with_tools=True)
    assert shown(collected) == "Let me look."
    assert called(collected) == [("get_weather", '{"city": "武汉"}')]
    assert collected[-1].finish == "stop"


def test_arguments_come_in_pieces_of_whole_characters(renderer: Renderer) -> None:
    collected = parts(renderer, CALL, with_tools=True)
    pieces = [call.arguments for part in collected for call in part.calls]
    assert shown(collected) == pieces[0] == ""
    assert len(pieces) > 4
    assert "\ufffd" not in "".join(pieces)


def test_every_token_of_a_call_has_its_logprob_once(renderer: Renderer) -> None:
    text = f"Let me look.\n{CALL}\n{CALL}"
    tokens = [delta.token for part in parts(renderer, text, with_tools=True) for _, delta in part.tokens]
    assert tokens == renderer.encode(text)


def test_stop_strings_are_looked_for_in_the_content_only(renderer: Renderer) -> None:
    assert called(parts(renderer, f"Hm\n{CALL}", stops=("city", "}\n"), with_tools=True)) != []
    collected = parts(renderer, f"Let me look.\n{CALL}", stops=("me",), with_tools=True)
    assert (shown(collected), called(collected), collected[-1].finish) == ("Let ", [], "stop")


def test_a_single_call_ends_the_answer(renderer: Renderer) -> None:
    choice = ChoiceText(renderer, (), with_tools=True, single_call=True)
    ids = renderer.encode(f"{CALL}\n{CALL}")
    collected = [choice.add(Delta(0, token)) for token in ids if not choice.finished]
    assert called(collected) == [("get_weather", '{"city": "武汉"}')]
    assert (collected[-1].finish, choice.called) == ("stop", True)


def test_a_grammar_ends_the_answer_where_nothing_more_may_follow(renderer: Renderer) -> None:
    grammar = Grammars(renderer).compile('start: "yes" ("!" "!")?')
    for text, finish in (("yes", None), ("yes!!", "stop")):
        choice = ChoiceText(renderer, (), with_tools=False, grammar=grammar)
        collected = [choice.add(Delta(0, token)) for token in renderer.encode(text)]
        assert (shown(collected), collected[-1].finish) == (text, finish)


def test_an_answer_that_is_whole_at_its_last_token_was_not_cut(renderer: Renderer) -> None:
    choice = ChoiceText(renderer, (), with_tools=False, grammar=Grammars(renderer).compile('start: "a"'))
    assert choice.add(Delta(0, renderer.encode("a")[0], finish="length")).finish == "stop"


@pytest.mark.parametrize("text", ["a <tool_box> b", "ends with <tool", "<tool_call>\nnot json\n</tool_call>", "x\n\n"])
def test_what_only_looks_like_a_call_is_text(renderer: Renderer, text: str) -> None:
    collected = parts(renderer, text, with_tools=True)
    assert shown(collected) == text
    assert called(collected) == []


def test_without_tools_a_call_is_text(renderer: Renderer) -> None:
    assert shown(parts(renderer, CALL)) == CALL


def test_plain_text_streams_before_the_end_although_tools_are_declared(renderer: Renderer) -> None:
    collected = parts(renderer, "It is sunny in Wuhan today.", with_tools=True)
    assert sum(bool(part.text) for part in collected) > 3


def test_a_single_call_is_the_first_of_several_that_come_at_once(renderer: Renderer) -> None:
    choice = ChoiceText(renderer, (), with_tools=True, single_call=True)
    text = '<tool_call>[{"name": "a", "args": {}}, {"name": "b", "args": {"c": 1}}]</tool_call>'
    collected = [choice.add(Delta(0, token)) for token in renderer.encode(text) if not choice.finished]
    assert called(collected) == [("a", "{}")]
    assert (collected[-1].finish, choice.called) == ("stop", True)
