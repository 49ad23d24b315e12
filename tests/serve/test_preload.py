"""The base of `serve_preload`, and the one asked last: loaded once nobody waits, and never twice."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tunesmith.errors import InvalidRequest
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.giving_way import GaveWay, give_way
from tunesmith.serve.last_base import LastBase
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
    while pool._spare is not None:
        assert request.is_alive()
    with capture_logs() as said:
        gate.set()
        thread.join(10)
    request.join(10)
    assert [entry["event"] for entry in said] == [
        "serve_preload: the base is in memory, and was asked for before it was"
    ]
    assert loaded == [(base_dir, "tunesmith-preload")]
    assert pool.resident() == (base_dir,)
    pool.close()


def test_nothing_is_loaded_where_the_setting_is_empty(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, serve_preload="")
    assert preloading(settings, Pool(settings)) is None


def test_an_unknown_base_is_refused_before_the_server_answers(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, serve_preload="none-of-these")
    cures = "Correct it to one of smollm2-135m-instruct; or to last, .* or leave it empty"
    with pytest.raises(InvalidRequest, match=rf"Setting serve_preload: 'none-of-these' is no base here. {cures}"):
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


class Loads:
    """What is being loaded, and what was; a load may wait, and gives way meanwhile."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Path]] = []
        self.begun, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, directory: Path, settings: Settings) -> QuietEngine:
        self.events.append(("begins", directory))
        self.begun.set()
        try:
            while not self.gate.wait(0.001):
                give_way()
        except GaveWay:
            self.events.append(("gives way", directory))
            raise
        self.events.append(("is loaded", directory))
        return QuietEngine()


@pytest.fixture
def other(base_dir: Path, tmp_path: Path) -> Path:
    """A second base."""
    directory = tmp_path / "other"
    directory.mkdir()
    for file in base_dir.iterdir():
        (directory / file.name).symlink_to(file)
    return directory


Start = Callable[..., tuple[Pool, Loads, threading.Thread]]


@pytest.fixture
def start(base_dir: Path, tmp_path: Path) -> Start:
    """A server's preloading, after another server's pool was asked for a base."""

    def started(
        *, name: str = "tiny", directory: Path = base_dir, **changes: object
    ) -> tuple[Pool, Loads, threading.Thread]:
        common = {"data_dir": tmp_path / "data", "bases": {"tiny": str(base_dir)}}
        settings, loads = Settings.model_validate(common | changes), Loads()
        LastBase(settings.paths).keep(directory, name)
        pool = Pool(settings, loads, LastBase(settings.paths).keep)
        thread = preloading(settings, pool)
        assert thread is not None
        return pool, loads, thread

    return started


@pytest.mark.parametrize("name", ["tiny", ""], ids=["base", "tuned-weights"])
def test_the_base_that_was_asked_last_is_loaded_at_the_next_start(start: Start, base_dir: Path, name: str) -> None:
    pool, loads, thread = start(name=name)
    assert loads.events == []  # until the server is ready
    with capture_logs() as said:
        thread.start()
        thread.join(10)
    assert [entry["event"] for entry in said] == ["a base is in memory before it is asked for"]
    assert loads.events == [("begins", base_dir), ("is loaded", base_dir)]
    assert pool.resident() == (base_dir,)


def test_a_server_for_a_single_command_does_not_load_the_last_base(base_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert preloading(settings, Pool(settings), lasting=False) is None
    settings = Settings(data_dir=tmp_path, bases={"tiny": str(base_dir)}, serve_preload="tiny")
    assert preloading(settings, Pool(settings), lasting=False) is not None


@pytest.mark.parametrize("named", [False, True], ids=["asked-last", "named"])
def test_a_request_for_another_base_ends_the_load_and_then_begins(
    start: Start, base_dir: Path, other: Path, *, named: bool
) -> None:
    """Before the other begins: so they are never in memory together. One that is named is loaded afterwards."""
    pool, loads, thread = start(**{"serve_preload": "tiny"} if named else {})
    loads.gate.clear()
    thread.start()
    assert loads.begun.wait(10)
    loads.begun.clear()
    request = threading.Thread(target=pool.open, args=(other,))
    request.start()
    assert loads.begun.wait(10)
    loads.gate.set()
    request.join(10)
    thread.join(10)
    assert not thread.is_alive()
    assert loads.events[:4] == [("begins", base_dir), ("gives way", base_dir), ("begins", other), ("is loaded", other)]
    assert loads.events[4:] == ([("begins", base_dir), ("is loaded", base_dir)] if named else [])
    assert [*pool.resident()] == ([base_dir, other] if named else [other])


def test_a_load_that_a_request_waits_for_gives_way_no_more(start: Start, base_dir: Path, other: Path) -> None:
    pool, loads, thread = start()
    loads.gate.clear()
    thread.start()
    assert loads.begun.wait(10)
    joined = threading.Thread(target=pool.open, args=(base_dir, None, "tiny"))
    joined.start()
    while pool._spare is not None:
        assert joined.is_alive()
    request = threading.Thread(target=pool.open, args=(other,))
    request.start()
    while len(loads.events) < 2:
        assert request.is_alive()
    loads.gate.set()
    for one in (thread, joined, request):
        one.join(10)
    assert ("gives way", base_dir) not in loads.events
    assert loads.events.count(("begins", base_dir)) == 1
    assert {*pool.resident()} == {base_dir, other}


@pytest.mark.parametrize("named", [False, True], ids=["asked-last", "named"])
def test_a_server_that_stops_ends_the_load(start: Start, base_dir: Path, *, named: bool) -> None:
    pool, loads, thread = start(**{"serve_preload": "tiny"} if named else {})
    loads.gate.clear()
    with capture_logs() as said:
        thread.start()
        assert loads.begun.wait(10)
        pool.close()
        assert loads.events == [("begins", base_dir), ("gives way", base_dir)]
        thread.join(10)
    assert not thread.is_alive()
    assert [entry["event"] for entry in said] == ["serve_preload: the server stops before the base is loaded"]


def test_a_base_that_came_too_late_to_give_way_is_evicted_where_room_is_short(
    start: Start, base_dir: Path, other: Path
) -> None:
    pool, _, thread = start(serve_memory_mib=700)  # the default base takes 540 in float32
    thread.start()
    thread.join(10)
    assert pool.resident() == (base_dir,)
    pool.open(other)
    assert pool.resident() == (other,)


def test_without_memory_for_the_last_base_none_is_loaded(start: Start) -> None:
    pool, loads, thread = start(serve_memory_mib=1)
    thread.start()
    thread.join(10)
    assert (loads.events, pool.resident()) == ([], ())


def test_a_last_base_whose_files_cannot_be_read_is_named_in_the_log(start: Start, other: Path) -> None:
    """An exception that nobody expects would be a traceback of the thread, which pytest makes an error."""
    (other / "model.safetensors").unlink()
    (other / "model.safetensors").write_bytes(b"{")
    pool, loads, thread = start(name="", directory=other)
    with capture_logs() as said:
        thread.start()
        thread.join(10)
    assert (loads.events, pool.resident()) == ([], ())
    assert [entry["event"] for entry in said] == ["serve_preload: the base could not be loaded"]


@pytest.mark.parametrize("left", ["gone", "{"], ids=["another-place", "damaged"])
def test_a_last_base_that_is_gone_stops_nothing(start: Start, tmp_path: Path, left: str) -> None:
    pool, loads, thread = start()
    kept = tmp_path / "data" / "serve" / "last-base.json"
    assert json.loads(kept.read_text())["name"] == "tiny"
    kept.write_text(left if left == "{" else json.dumps({"name": "", "directory": str(tmp_path / left)}))
    thread.start()
    thread.join(10)
    assert (loads.events, pool.resident()) == ([], ())


def test_the_last_base_is_written_once_and_not_by_each_request(base_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    pool = Pool(settings, Loads(), LastBase(settings.paths).keep)
    pool.open(base_dir, None, "tiny")
    kept = settings.paths.serve / "last-base.json"
    kept.unlink()
    pool.open(base_dir, None, "tiny")
    assert not kept.exists()
    pool.open(base_dir)
    assert json.loads(kept.read_text()) == {"directory": str(base_dir), "name": ""}
