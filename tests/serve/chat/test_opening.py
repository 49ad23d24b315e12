"""The beginning of an answer that is not part of its text, token by token."""

import pytest

from tunesmith.render.rendered import Opening
from tunesmith.render.renderer import Renderer
from tunesmith.serve.chat.text import ChoiceText
from tunesmith.serve.engine.protocol import Delta

EMPTY = "<think>\n\n</think>\n\n"


def shown(renderer: Renderer, opening: Opening, text: str) -> tuple[str, int, list[int]]:
    """(what is shown of `text`, how many tokens are counted, the tokens with log-probabilities)."""
    choice = ChoiceText(renderer, (), with_tools=False, opening=opening)
    deltas = [Delta(0, token, -0.5) for token in renderer.encode(text)]
    parts = [choice.add(one) for one in [*deltas, Delta(0, min(renderer.eos_ids), -0.1, finish="stop")]]
    tokens = [delta.token for part in parts for _, delta in part.tokens]
    return "".join(part.text for part in parts), choice.tokens, tokens


def opening_of(renderer: Renderer, begun: str = "", text: str = EMPTY) -> Opening:
    return Opening(tuple(renderer.encode(text)), begun)


@pytest.mark.parametrize("answer", ["Four.", "", "武汉的冬天🥶冷"])
def test_an_empty_block_of_thinking_is_not_shown(renderer: Renderer, answer: str) -> None:
    ids = [*renderer.encode(EMPTY), *renderer.encode(answer)]
    choice = ChoiceText(renderer, (), with_tools=False, opening=opening_of(renderer))
    parts = [choice.add(Delta(0, token, -0.5)) for token in ids]
    parts.append(choice.add(Delta(0, min(renderer.eos_ids), -0.1, finish="stop")))
    assert "".join(part.text for part in parts) == answer
    assert choice.tokens == len(ids)  # the caller pays for what the model wrote
    assert [delta.token for part in parts for _, delta in part.tokens] == renderer.encode(answer)


@pytest.mark.parametrize("text", ["<think>\nTwo.\n</think>\n\nFour.", "<think>", "<think>\n\n</think", "Four.", ""])
def test_another_beginning_is_shown_whole(renderer: Renderer, text: str) -> None:
    assert shown(renderer, opening_of(renderer), text) == (text, len(renderer.encode(text)), renderer.encode(text))


def test_a_thought_that_the_prompt_began_is_shown_from_its_beginning(renderer: Renderer) -> None:
    opening = opening_of(renderer, "<think>\n", "\n</think>\n\n")
    assert shown(renderer, opening, "Two.\n</think>\n\nFour.")[0] == "<think>\nTwo.\n</think>\n\nFour."
    assert shown(renderer, Opening((), "<think>\n"), "Two.")[0] == "<think>\nTwo."


def test_a_stop_string_still_ends_the_answer(renderer: Renderer) -> None:
    choice = ChoiceText(renderer, (" two",), with_tools=False, opening=opening_of(renderer))
    text = ""
    for token in renderer.encode("<think>one two three"):
        if not choice.finished:
            text += choice.add(Delta(0, token, -0.5)).text
    assert (text, choice.finished) == ("<think>one", True)
