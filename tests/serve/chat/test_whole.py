"""An answer that is awaited whole: the same as piece by piece, and a stop string still ends it at once."""

import asyncio

import pytest
from tests.serve.engine.test_protocol import Counted

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.answer import Piece, Reply, start_chat
from tunesmith.serve.chat.request import chat_request
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

ASKED: JsonObject = {
    "model": "base",
    "messages": [{"role": "user", "content": "Count from one to ten, in words."}],
    "max_completion_tokens": 24,
    "temperature": 0,
}


def begin(opened: LoadedModel, **more: JsonValue) -> Reply:
    return start_chat(chat_request(read(Chat, {**ASKED, **more})), opened, 24)


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("more", [{}, {"stop": "two"}, {"n": 2}], ids=["plain", "stop", "choices"])
def test_a_whole_answer_is_that_of_its_pieces(opened: LoadedModel, more: JsonObject) -> None:
    streamed = begin(opened, **more)
    wanted = list(streamed)
    whole = begin(opened, **more)
    found = asyncio.run(whole.whole_async())
    for choice in range(int(str(more.get("n", 1)))):
        one, other = ([piece for piece in pieces if piece.choice == choice] for pieces in (found, wanted))
        assert text(one) == text(other)
        assert one[-1].finish == other[-1].finish
    used, known = whole.usage, streamed.usage
    assert (used.prompt_tokens, used.completion_tokens) == (known.prompt_tokens, known.completion_tokens)


def test_the_loop_is_woken_once_for_a_whole_answer(opened: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    async def woken() -> int:
        counted = Counted(asyncio.get_running_loop(), monkeypatch)
        await begin(opened).whole_async()
        return counted.times

    assert asyncio.run(woken()) == 1
