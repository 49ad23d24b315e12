"""The base of `serve_preload`: loaded once nobody waits, and never twice."""

import threading
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.pool import Pool
from tunesmith.serve.preload import preloading
from tunesmith.settings import Settings


class QuietEngine:
    context_length, fingerprint = 16, "quiet"

    def submit(self, request: GenerateRequest) -> Generation:
        return Generation(request.n)

    def close(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


def test_a_base_is_in_memory_before_the_first_request_and_a_request_meanwhile_loads_no_other(
    base_dir: Path, tmp_path: Path
) -> None:
    loaded, gate = [], threading.Event()

    def load(directory: Path, settings: Settings) -> QuietEngine:
        loaded.append((directory, threading.current_thread().name))
        assert gate.wait(10)
        return QuietEngine()

    settings = Settings(data_dir=tmp_path / "data", bases={"tiny": str(base_dir)}, serve_preload="tiny")
    pool = Pool(settings, load)
    thread = preloading(settings, pool)
    assert thread is not None
    assert pool.resident() == ()
    thread.start()
    request = threading.Thread(target=pool.open, args=(base_dir, None, "tiny"))
    while not pool.resident():
        assert thread.is_alive()
    request.start()
    gate.set()
    thread.join(10)
    request.join(10)
    assert loaded == [(base_dir, "tunesmith-preload")]
    assert pool.resident() == (base_dir,)
    pool.close()


def test_nothing_is_loaded_unless_a_setting_says_so(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert preloading(settings, Pool(settings)) is None


def test_an_unknown_base_is_refused_before_the_server_answers(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, serve_preload="none-of-these")
    with pytest.raises(InvalidRequest, match=r"Setting serve_preload: .*none-of-these"):
        preloading(settings, Pool(settings))


def test_a_base_that_cannot_be_loaded_stops_nothing_and_is_tried_again(base_dir: Path, tmp_path: Path) -> None:
    tries = []

    def load(directory: Path, settings: Settings) -> QuietEngine:
        tries.append(directory)
        if len(tries) == 1:
            raise InvalidRequest("no memory")
        return QuietEngine()

    settings = Settings(data_dir=tmp_path, bases={"tiny": str(base_dir)}, serve_preload="tiny")
    pool = Pool(settings, load)
    thread = preloading(settings, pool)
    assert thread is not None
    thread.start()
    thread.join(10)
    assert pool.resident() == ()
    pool.open(base_dir, None, "tiny")
    assert len(tries) == 2
    pool.close()
