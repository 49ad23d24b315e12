"""Which adapters stay in a vLLM server, over real HTTP to a stand-in for it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.fake_vllm import BASE, FakeVllm, running

from tunesmith.errors import ServerFault
from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.serve.vllm.adapters import PREFIX, RemoteAdapters, adapter_name
from tunesmith.serve.vllm.server import RemoteServer

Write = Callable[[int], Path]


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with running(FakeVllm()) as server:
        yield server


@pytest.fixture
def write(tmp_path: Path, fake: FakeVllm) -> Write:
    """An adapter on disk that the server can load."""

    def write(number: int) -> Path:
        directory = tmp_path / str(number)
        write_adapter(directory, {}, AdapterManifest(BASE, "f", "r", 8, 16.0, ("q_proj",), step=number))
        fake.answers[str(directory)] = [number]
        return directory

    return write


def with_server(fake: FakeVllm, work: Callable[[RemoteServer], Awaitable[None]]) -> None:
    async def run() -> None:
        server = RemoteServer(BASE, fake.url, None)
        try:
            await work(server)
        finally:
            await server.close()

    asyncio.run(run())


async def use(adapters: RemoteAdapters, directory: Path) -> str:
    async with adapters.using(directory) as name:
        return name


def test_a_name_changes_with_the_adapter_and_with_nothing_else(write: Write, tmp_path: Path) -> None:
    first, again = adapter_name(write(1)), adapter_name(write(1))
    assert first == again
    assert first.startswith(PREFIX)
    assert adapter_name(write(2)) != first
    with pytest.raises(ServerFault, match="no usable adapter"):
        adapter_name(tmp_path / "nowhere")


def test_requests_at_the_same_time_load_an_adapter_once(fake: FakeVllm, write: Write) -> None:
    directory = write(1)

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=4)
        assert len({*await asyncio.gather(*(use(adapters, directory) for _ in range(8)))}) == 1

    with_server(fake, work)
    assert fake.calls == [f"load {directory}"]


def test_an_adapter_in_use_is_never_unloaded(fake: FakeVllm, write: Write) -> None:
    first, second, third = (write(number) for number in (1, 2, 3))

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=1)
        async with adapters.using(first):
            await use(adapters, second)
            assert adapter_name(first) in fake.adapters
            await use(adapters, third)  # over the limit for as long as the first is used
            assert adapter_name(first) in fake.adapters
        await use(adapters, second)

    with_server(fake, work)
    assert [*fake.adapters.values()] == [str(second)]
    assert fake.calls.count(f"unload {first}") == 1


def test_the_least_recently_used_goes_first(fake: FakeVllm, write: Write) -> None:
    first, second, third = (write(number) for number in (1, 2, 3))

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=2)
        for directory in (first, second, first, third):
            await use(adapters, directory)

    with_server(fake, work)
    assert {*fake.adapters.values()} == {str(first), str(third)}


def test_adapters_that_are_not_ours_are_left_alone(fake: FakeVllm, write: Write) -> None:
    fake.adapters = {"somebody-elses": "/x", f"{PREFIX}old": "/y"}

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=1, loaded=[*fake.adapters])
        await use(adapters, write(1))

    with_server(fake, work)
    assert "somebody-elses" in fake.adapters
    assert f"{PREFIX}old" not in fake.adapters  # ours, of before a restart of Tunesmith, counts


def test_a_failed_load_fails_its_requests_and_is_tried_again(fake: FakeVllm, write: Write) -> None:
    directory = write(1)
    tokens = fake.answers.pop(str(directory))

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=4)
        failures = await asyncio.gather(*(use(adapters, directory) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(failure, ServerFault) for failure in failures)
        fake.answers[str(directory)] = tokens
        assert await use(adapters, directory) in fake.adapters

    with_server(fake, work)
    assert fake.calls == [f"load {directory}"] * 2


def test_a_discarded_adapter_is_loaded_again(fake: FakeVllm, write: Write) -> None:
    directory = write(1)

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=4)
        name = await use(adapters, directory)
        fake.adapters.clear()  # the server was restarted
        adapters.discard(name)
        assert await use(adapters, directory) == name
        adapters.discard("never loaded")

    with_server(fake, work)
    assert fake.calls == [f"load {directory}"] * 2


def test_server_that_is_back_has_what_it_says(fake: FakeVllm, write: Write) -> None:
    first, second = write(1), write(2)

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=2)
        for directory in (first, second):
            await use(adapters, directory)
        del fake.adapters[adapter_name(first)]
        fake.adapters |= {f"{PREFIX}old": "/old", "somebody-elses": "/x"}
        adapters.found([*fake.adapters])
        await use(adapters, first)  # in the place of the one that nobody asked for since

    with_server(fake, work)
    assert fake.calls == [f"load {first}", f"load {second}", "unload /old", f"load {first}"]
    assert {*fake.adapters.values()} == {str(first), str(second), "/x"}


def test_an_adapter_that_cannot_be_unloaded_does_not_hinder_the_next(fake: FakeVllm, write: Write) -> None:
    first, second = write(1), write(2)

    async def work(server: RemoteServer) -> None:
        adapters = RemoteAdapters(server, limit=1)
        await use(adapters, first)
        fake.unload_status = 500
        assert await use(adapters, second) in fake.adapters

    with_server(fake, work)
