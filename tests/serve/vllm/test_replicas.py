"""Several vLLM servers behind one base: real HTTP to stand-ins that fail in the ways of real ones."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.fake_vllm import BASE, FakeVllm, running, write_rank_8
from tests.servers import wait_until

from tunesmith.errors import ServerFault, ServiceUnavailable
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.vllm.engine import RemoteEngine
from tunesmith.serve.vllm.loading import load_remote_engine
from tunesmith.settings import Settings

EOS = 2
Servers = tuple[FakeVllm, FakeVllm]


def server(first: int) -> FakeVllm:
    """One whose base answers three tokens from `first` on."""
    fake = FakeVllm()
    fake.answers[BASE] = [first, first + 1, EOS]
    return fake


@pytest.fixture
def servers() -> Iterator[Servers]:
    with running(server(10)) as a, running(server(20)) as b:
        yield a, b


@contextmanager
def opened(base_dir: Path, *urls: str, adapters: int = 64) -> Iterator[RemoteEngine]:
    settings = Settings(serve_remote={BASE: list(urls)}, serve_remote_adapters=adapters)
    engine = load_remote_engine(BASE, base_dir, settings)
    try:
        yield engine
    finally:
        engine.close()
        engine.join(10)
        assert not engine.alive


def submit(engine: RemoteEngine, adapter: Path | None = None) -> Generation:
    return engine.submit(
        GenerateRequest(prompt=(1, 7, 8), max_tokens=20, eos_ids=frozenset({EOS}), temperature=0.0, adapter=adapter)
    )


def ask(engine: RemoteEngine, adapter: Path | None = None) -> int:
    """The first token, which tells who answered."""
    first, *_ = submit(engine, adapter)
    return first.token


def port(fake: FakeVllm) -> int:
    return urlsplit(fake.url).port or 0


@pytest.fixture
def adapter(base_dir: Path, tmp_path: Path, servers: Servers) -> Callable[[int], Path]:
    """Writes an adapter that answers its number at the first server, and 100 more at the second."""

    def write(number: int) -> Path:
        directory = write_rank_8(tmp_path / str(number), base_dir, number)
        for offset, fake in zip((0, 100), servers, strict=True):
            fake.answers[str(directory)] = [number + offset, EOS]
        return directory

    return write


def test_server_with_the_fewest_requests_takes_the_next_the_first_of_equals(base_dir: Path, servers: Servers) -> None:
    for fake in servers:
        fake.hold.clear()
    with opened(base_dir, *(fake.url for fake in servers)) as engine:
        begun = [iter(submit(engine)) for _ in range(5)]
        assert [next(stream).token for stream in begun] == [10, 20, 10, 20, 10]
        servers[1].hold.set()
        for stream in (begun[1], begun[3]):
            assert [delta.token for delta in stream] == [21, EOS]
        assert [next(iter(submit(engine))).token for _ in range(3)] == [20, 20, 20]
        servers[0].hold.set()
        assert [delta.token for delta in begun[0]] == [11, EOS]


def test_adapter_is_loaded_where_it_is_needed_and_evicted_there(
    base_dir: Path, servers: Servers, adapter: Callable[[int], Path]
) -> None:
    a, b = servers
    one, two = adapter(41), adapter(42)
    with opened(base_dir, a.url, b.url, adapters=1) as engine:
        assert [ask(engine, one) for _ in range(3)] == [41] * 3
        a.hold.clear()
        busy = iter(submit(engine, one))
        assert next(busy).token == 41
        assert [ask(engine, one), ask(engine, two)] == [141, 142]
        a.hold.set()
        assert [delta.token for delta in busy] == [EOS]
    assert a.calls == [f"load {one}"]
    assert b.calls == [f"load {one}", f"unload {one}", f"load {two}"]


def test_server_killed_in_mid_stream_ends_that_stream_and_the_other_answers(base_dir: Path, servers: Servers) -> None:
    a, b = servers
    a.hold.clear()
    a.ending = "broken"
    with opened(base_dir, a.url, b.url) as engine:
        stream = iter(submit(engine))
        assert next(stream).token == 10
        a.hold.set()
        assert next(stream).token == 11
        with pytest.raises(ServiceUnavailable, match="broke off") as caught:
            list(stream)
        assert (caught.value.code, caught.value.retry_after) == ("remote_broke_off", None)  # the other one is there
        assert [ask(engine) for _ in range(3)] == [20] * 3
        assert len(a.bodies) == 1  # left out


def test_request_goes_on_to_another_server_and_the_first_comes_back(
    base_dir: Path, servers: Servers, adapter: Callable[[int], Path]
) -> None:
    directory, b = adapter(41), servers[1]
    with ExitStack() as stack:
        a = stack.enter_context(running(server(30)))
        a.answers[str(directory)] = [31, EOS]
        with opened(base_dir, a.url, b.url) as engine:
            assert ask(engine, directory) == 31
            stack.close()  # gone
            assert [ask(engine, directory) for _ in range(2)] == [141, 141]
            a.adapters.clear()
            with running(a, port(a)):
                wait_until(lambda: ask(engine, directory) == 31, 20, "the server's return")
            assert a.calls == [f"load {directory}"] * 2  # it had lost it


def test_while_all_are_gone_callers_are_told_when_to_ask_again(base_dir: Path) -> None:
    with ExitStack() as stack:
        a, b = (stack.enter_context(running(server(first))) for first in (10, 20))
        with opened(base_dir, a.url, b.url) as engine:
            stack.close()
            with pytest.raises(ServiceUnavailable, match="cannot be reached") as first:
                list(submit(engine))
            assert (first.value.code, first.value.retry_after) == ("remote_unreachable", 1)
            started = time.monotonic()
            with pytest.raises(ServiceUnavailable, match="None of the 2 vLLM servers that answer for") as second:
                submit(engine)
            assert time.monotonic() - started < 0.5  # nobody is asked
            assert second.value.message.endswith(f"can be reached. Ask again in {second.value.retry_after} s.")
            with running(b, port(b)):
                wait_until(lambda: answers(engine), 20, "a server's return")


def answers(engine: RemoteEngine) -> bool:
    try:
        return ask(engine) == 20
    except ServiceUnavailable:
        return False


def test_servers_that_stay_away_are_asked_more_and_more_rarely(base_dir: Path, servers: Servers) -> None:
    with running(server(30)) as gone:
        pass
    with opened(base_dir, gone.url, servers[1].url) as engine:
        assert ask(engine) == 20
        (left_out, _) = engine._numbered
        wait_until(lambda: left_out.failures >= 2, 10, "a probe")
        assert left_out.pause == 2.0 ** (left_out.failures - 1)
        left_out.failures = 50
        assert left_out.pause == 10.0


@pytest.mark.parametrize("status", [429, 503, 401, 500])
def test_another_server_answers_what_one_refuses(base_dir: Path, servers: Servers, status: int) -> None:
    a, b = servers
    a.refusal = (status, "x")
    with opened(base_dir, a.url, b.url) as engine:
        assert ask(engine) == 20
        b.refusal = (status, "x")
        with pytest.raises((ServiceUnavailable, ServerFault)):
            list(submit(engine))


def test_refusal_of_a_request_is_not_tried_elsewhere(base_dir: Path, servers: Servers) -> None:
    a, b = servers
    a.refusal = (400, "prompt too long")
    with opened(base_dir, a.url, b.url) as engine:
        with pytest.raises(ServerFault, match="refused the request"):
            list(submit(engine))
        assert b.bodies == []


def test_request_that_breaks_servers_breaks_two_at_most(base_dir: Path, servers: Servers) -> None:
    with running(server(30)) as third:
        for fake in (*servers, third):
            fake.answers[BASE], fake.ending = [], "broken"
        with opened(base_dir, *(fake.url for fake in (*servers, third))) as engine:
            with pytest.raises(ServiceUnavailable, match="broke off"):
                list(submit(engine))
            assert [len(fake.bodies) for fake in (*servers, third)] == [1, 1, 0]


def test_adapter_that_one_server_cannot_load_is_loaded_by_another(
    base_dir: Path, servers: Servers, adapter: Callable[[int], Path]
) -> None:
    directory = adapter(41)
    del servers[0].answers[str(directory)]  # its disk is another one
    with opened(base_dir, *(fake.url for fake in servers)) as engine:
        assert ask(engine, directory) == 141


def test_server_whose_engine_is_dead_is_left_out_before_it_ends(base_dir: Path, servers: Servers) -> None:
    a, b = servers
    with opened(base_dir, a.url, b.url) as engine:
        a.refusal, a.health = (500, "EngineCore encountered an issue."), 503
        assert ask(engine) == 20
        (first, _) = engine._numbered
        wait_until(lambda: first.out_until is not None, 5, "the server to be left out")
        a.refusal, a.health = None, 200
        wait_until(lambda: ask(engine) == 10, 20, "its return")


def test_server_that_fails_comes_after_the_others_but_answers_alone(base_dir: Path, servers: Servers) -> None:
    a, b = servers
    with opened(base_dir, a.url, b.url) as engine:
        a.refusal = (500, "its words")
        assert ask(engine) == 20
        a.refusal = None
        assert ask(engine) == 20  # the first one is doubted for a while
        b.refusal = (503, "full")
        assert ask(engine) == 10


def test_base_opens_with_the_servers_that_are_there(base_dir: Path, servers: Servers) -> None:
    a, b = servers
    a.context, b.context = 1000, 2000
    with running(server(30)) as gone:
        gone.context = 500
    with opened(base_dir, gone.url, b.url, a.url) as engine:
        assert (ask(engine), engine.context_length) == (20, 1000)
        with running(gone, port(gone)):
            wait_until(lambda: ask(engine) == 30, 20, "the third server")
        assert engine.context_length == 500
    with pytest.raises(ServiceUnavailable, match=f"None of the 2 .*{gone.url}") as caught:
        load_remote_engine(BASE, base_dir, Settings(serve_remote={BASE: [gone.url, f"{gone.url}/x"]}))
    assert gone.url not in caught.value.message


def test_server_of_another_base_among_them_is_left_out(base_dir: Path, servers: Servers) -> None:
    a, b = servers
    b.key = "sesame"
    with opened(base_dir, b.url, a.url) as engine:
        assert ask(engine) == 10
    assert b.bodies == []
