"""A generation handed to an event loop: token by token, or once at its end."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from tunesmith.serve.engine.protocol import Delta, Generation

TOKENS = 40


def from_a_thread(generation: Generation, end: Callable[[], None]) -> threading.Thread:
    """An engine's thread: tokens one by one, then the end."""

    def work() -> None:
        for token in range(TOKENS):
            generation.put([Delta(0, token)])
        end()

    return threading.Thread(target=work)


class Counted:
    """Counts how often a loop was woken from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        inner = loop.call_soon_threadsafe

        def counting(*args: object, **options: object) -> asyncio.Handle:
            self.times += 1
            return inner(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)


def test_a_whole_answer_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> tuple[list[Delta], int]:
        generation = Generation(1)
        counted = Counted(asyncio.get_running_loop(), monkeypatch)
        engine = from_a_thread(generation, generation.end)
        reading = asyncio.create_task(generation.all_async())
        await asyncio.sleep(0)
        engine.start()
        found = await reading
        engine.join()
        return found, counted.times

    found, woken = asyncio.run(read())
    assert [delta.token for delta in found] == list(range(TOKENS))
    assert woken == 1


def test_an_answer_that_had_ended_before_is_read_too() -> None:
    async def read() -> list[Delta]:
        generation = Generation(1)
        engine = from_a_thread(generation, generation.end)
        engine.start()
        engine.join()
        return await generation.all_async()

    assert [delta.token for delta in asyncio.run(read())] == list(range(TOKENS))


def test_an_engine_that_fails_raises_in_the_reader() -> None:
    async def read() -> list[Delta]:
        generation = Generation(1)
        engine = from_a_thread(generation, lambda: generation.fail(ValueError("a broken row")))
        engine.start()
        return await generation.all_async()

    with pytest.raises(ValueError, match="a broken row"):
        asyncio.run(read())


def test_a_closed_generation_gives_what_there_was() -> None:
    async def read() -> list[Delta]:
        generation = Generation(1)
        generation.put([Delta(0, 1)])
        threading.Timer(0.05, generation.close).start()
        return await generation.all_async()

    assert [delta.token for delta in asyncio.run(read())] == [1]
