"""Exports with object storage: one server writes, any server of the same store shows, sends, cancels and removes."""

import io
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient
from tests.export.conftest import quietly
from tests.servers import wait_until
from tests.web.pages.test_exports import CHILD_SECONDS, ended
from tests.web.pages.test_exports import model as model
from tests.web.pages.test_exports import tiny as tiny

from tunesmith.api.exports import bucket_shelf
from tunesmith.api.exports.bucket_shelf import SILENT_SECONDS, BucketShelf
from tunesmith.api.exports.request import ExportRequest
from tunesmith.api.exports.service import KEPT_SECONDS, Exports
from tunesmith.api.exports.state import State
from tunesmith.errors import ServiceUnavailable
from tunesmith.export.formats import export
from tunesmith.export.tuned_model import open_tuned
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.storage.bucket import Bucket, StoredObject
from tunesmith.web.site import create_site

DOWNLOAD = "/ui/model-exports/download"


@dataclass(frozen=True, slots=True)
class Place:
    """A server's dashboard, signed in, and its own directory of exports."""

    browser: TestClient
    exports: Path

    def act(self, action: str, model: str, kind: str, status: int = 200, **more: str) -> str:
        form = {"name": model, "kind": kind, **more}
        answer = self.browser.post(f"/ui/model-exports/{action}", data=form, headers={"hx-request": "true"})
        assert answer.status_code == status, answer.text
        return answer.text

    def shown(self, model: str) -> str:
        return self.browser.get("/ui/model-exports", params={"name": model}).text


@pytest.fixture
def settings(tmp_path: Path, tiny: Path, storage: str) -> Settings:
    bases = {"tiny": str(tiny)}
    return Settings(data_dir=tmp_path / "one", storage=storage, bases=bases, base_model="tiny", disk_reserve_bytes=1000)


@pytest.fixture
def places(store: Store, settings: Settings, tmp_path: Path) -> Iterator[list[Place]]:
    """Two servers on one store, each with a directory of its own for what it writes."""
    raw, _ = store.keys.create("browser", role="owner", project="default")
    with TestClient(create_site(settings, store, Pool(settings)), base_url="http://localhost") as first:
        other = settings.model_copy(update={"data_dir": tmp_path / "two"})
        with TestClient(create_site(other, store, Pool(other)), base_url="http://localhost") as second:
            found = [Place(first, settings.paths.exports), Place(second, other.paths.exports)]
            for one in found:
                assert one.browser.post("/ui/sign-in", data={"key": raw}).status_code == 200
                one.browser.headers["x-csrf-token"] = one.browser.get("/").text.split('data-csrf="')[1].split('"')[0]
            yield found


def keys(bucket: Bucket) -> list[str]:
    return sorted(one.key for one in bucket.list("exports"))


def test_what_one_server_writes_every_server_sends_and_removes(
    places: list[Place], model: str, store: Store, settings: Settings, bucket: Bucket, tmp_path: Path
) -> None:
    writer, other = places
    writer.act("start", model, "gguf", width="q8_0")
    assert 'id="remove-gguf"' in other.shown(model)
    assert "Another server is writing this export" in other.act("start", model, "gguf", 503)
    for place in places:
        assert "Download (" in ended(place.browser, model)
        assert "q8_0" in place.shown(model)
    row = store.models.get(model)
    assert row is not None
    export(open_tuned(model, "tiny", row.adapter_dir, settings), "gguf", tmp_path / "wanted", quietly, width="q8_0")
    (wanted,) = (path.read_bytes() for path in (tmp_path / "wanted").iterdir() if path.suffix == ".gguf")
    query = {"name": model, "kind": "gguf"}
    for place in places:
        answer = place.browser.get(DOWNLOAD, params=query)
        assert (answer.content, answer.headers["content-length"]) == (wanted, str(len(wanted)))
    middle = other.browser.get(DOWNLOAD, params=query, headers={"range": "bytes=1000-1999"})
    assert (middle.status_code, middle.content) == (206, wanted[1000:2000])
    for place in places:  # the bucket alone has it
        assert [path.name for path in place.exports.iterdir()] == ["lock"]
    assert "Download (" not in other.act("remove", model, "gguf")
    assert writer.browser.get(DOWNLOAD, params=query).status_code == 404
    assert keys(bucket) == []


def test_another_server_cancels_a_writing_and_nothing_of_it_stays(
    places: list[Place], model: str, bucket: Bucket
) -> None:
    writer, other = places
    writer.act("start", model, "safetensors")
    assert 'id="remove-safetensors"' not in other.act("remove", model, "safetensors")
    wait_until(lambda: "hx-trigger" not in writer.shown(model), CHILD_SECONDS, "the end of the writing")
    assert [path.name for path in writer.exports.iterdir()] == ["lock"]
    assert keys(bucket) == []
    assert "Download (" not in writer.shown(model)


@dataclass
class Sending:
    """A transfer that is stopped after so many bytes."""

    stop_after: int = 1 << 62
    sent: int = 0
    stopped: bool = False

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "sent" and self.sent > self.stop_after:
            object.__setattr__(self, "stopped", True)


STATE = State("ft:tiny:acme::one", "peft", "auto", "running", token="t1")
DONE = replace(STATE, phase="done", written=9, needed=9)


@pytest.fixture
def shelf(bucket: Bucket, tmp_path: Path) -> BucketShelf:
    return BucketShelf(bucket, tmp_path / "exports")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of two files, one of which goes in parts."""
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    (made / "card.md").write_text("# One\n")
    (made / "inner" / "weights").write_bytes(bytes(range(256)) * (9 << 12))
    return made


def test_a_tar_file_is_made_of_objects(places: list[Place], model: str, shelf: BucketShelf, folder: Path) -> None:
    state, sending = replace(DONE, model=model), Sending()
    shelf.begin(replace(state, phase="running"))
    shelf.put_files(state, folder, sending)
    assert shelf.settle(state)
    assert sending.sent == 6 + (9 << 20)
    answer = places[1].browser.get(DOWNLOAD, params={"name": model, "kind": "peft"})
    assert len(answer.content) == int(answer.headers["content-length"])
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {one.name.partition("/")[2]: archive.extractfile(one) for one in archive}
        read = {name: file.read() for name, file in found.items() if file is not None}
    assert read == {"card.md": b"# One\n", "inner/weights": (folder / "inner" / "weights").read_bytes()}


def test_a_writing_that_was_stopped_or_replaced_leaves_the_others_alone(
    shelf: BucketShelf, folder: Path, bucket: Bucket
) -> None:
    shelf.begin(STATE)
    with pytest.raises(OSError, match="the export was cancelled"):
        shelf.put_files(DONE, folder, Sending(stop_after=1 << 20))
    shelf.discard(DONE)
    assert keys(bucket) == []
    shelf.begin(STATE)
    with pytest.raises(ServiceUnavailable, match="Another server is writing this export"):
        shelf.begin(replace(STATE, token="t2"))
    shelf.remove(STATE.model, "peft")
    second = replace(STATE, token="t2")
    shelf.begin(second)
    assert not shelf.announce(STATE)
    shelf.put_files(replace(DONE, token="t2"), folder, Sending())
    assert not shelf.settle(DONE)
    shelf.discard(DONE)
    assert shelf.settle(replace(DONE, token="t2"))
    assert {one.name: one.size for one in shelf.files(shelf.states(STATE.model)["peft"])} == {
        "card.md": 6,
        "inner/weights": 9 << 20,
    }


def test_a_mark_ends_a_writing_whose_state_came_again(shelf: BucketShelf, bucket: Bucket) -> None:
    shelf.begin(STATE)
    shelf.remove(STATE.model, "peft")
    shelf._put(STATE)  # its server had looked just before
    assert shelf.states(STATE.model) == {}
    assert not shelf.announce(STATE)
    shelf.discard(STATE)
    assert keys(bucket) == []


def test_a_state_that_is_put_again_while_it_is_read_is_seen_whole(
    shelf: BucketShelf, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.begin(STATE)
    listing = bucket.list

    def list_and_then(prefix: str) -> Iterator[StoredObject]:
        found = [*listing(prefix)]
        shelf._put(replace(STATE, written=10**12, needed=10**12))  # longer than it was when it was listed
        yield from found

    monkeypatch.setattr(bucket, "list", list_and_then)
    assert shelf.states(STATE.model)["peft"].written == 10**12


def test_of_a_failed_export_only_the_reason_stays(shelf: BucketShelf, folder: Path, bucket: Bucket) -> None:
    shelf.begin(STATE)
    shelf.put_files(DONE, folder, Sending())
    assert shelf.settle(replace(STATE, phase="failed", message="No room."))
    assert [key.rpartition("/")[2] for key in keys(bucket)] == ["state.json"]
    assert shelf.states(STATE.model)["peft"].message == "No room."


def test_sweeps_take_what_is_old_silent_or_belongs_to_nothing(
    store: Store, settings: Settings, model: str, shelf: BucketShelf, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()

    def put(state: State, ago: float) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(bucket_shelf, "time", SimpleNamespace(time=lambda: now - ago))
            shelf.begin(state)
        bucket.put_bytes(f"{bucket_shelf._key(state)}/{state.token}/file", b"x")

    kept = [
        (State(model, "peft", "auto", "done", token="a"), KEPT_SECONDS - 60),
        (State(model, "gguf", "auto", "running", token="b"), SILENT_SECONDS / 2),
    ]
    gone = [
        (State(model, "safetensors", "auto", "done", token="c"), KEPT_SECONDS + 60),
        (State(model, "ollama", "auto", "running", token="d"), SILENT_SECONDS + 60),
        (State("ft:tiny:acme::gone", "peft", "auto", "done", token="e"), 60),
    ]
    for state, ago in kept + gone:
        put(state, ago)
    bucket.put_bytes("exports/0123/peft/f/file", b"without a state")
    assert Exports(store, settings).sweep() == 4
    left = {key.split("/")[2] for key in keys(bucket)}
    assert (left, len(keys(bucket))) == ({"peft", "gguf"}, 4)


def test_of_two_servers_that_begin_the_same_export_at_once_the_second_is_refused(
    store: Store, settings: Settings, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        Exports(store, settings.model_copy(update={"data_dir": tmp_path / name})) for name in ("one", "two")
    )
    row = store.models.get(model)
    assert row is not None
    request = ExportRequest(model, "tiny", row.adapter_dir, "peft")
    refused: list[str] = []
    listing = Bucket.list

    def list_and_then(self: Bucket, prefix: str) -> Iterator[StoredObject]:
        found = [*listing(self, prefix)]
        with monkeypatch.context() as patch:  # the other one looks before the first has put
            patch.setattr(Bucket, "list", listing)
            try:
                second.start(request)
            except ServiceUnavailable as error:
                refused.append(error.message)
        yield from found

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "list", list_and_then)
        first.start(request)
    assert refused == ["Another server is writing this export. Wait until it has ended, or cancel it."]
    assert (first.running() is not None, second.running()) == (True, None)
    first.stop()


def test_a_server_whose_clock_is_ahead_leaves_what_another_writes(
    store: Store, settings: Settings, model: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(model, "peft", "auto", "running", token="a")
    shelf = BucketShelf(bucket, settings.paths.exports, store.leases.now)
    shelf.begin(state)
    ahead = SimpleNamespace(time=lambda: time.time() + SILENT_SECONDS + 60)
    monkeypatch.setattr(bucket_shelf, "time", ahead)
    other = Exports(store, settings)
    assert other.sweep() == 0
    assert [*other.states(model)] == ["peft"]
    assert shelf.announce(state)
