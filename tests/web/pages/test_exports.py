"""Models written for other programs from their page, by the real child process on a tiny base."""

import io
import json
import re
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.export.conftest import quietly, with_adapter
from tests.servers import wait_until
from tests.web.conftest import SignIn
from tests.web.work import finish, running_job

from tunesmith.api.exports.service import KEPT_SECONDS, Exports
from tunesmith.api.exports.state import State, name_of, write_state
from tunesmith.export.formats import export
from tunesmith.export.tuned_model import open_tuned
from tunesmith.models.adapters import read_manifest, write_manifest
from tunesmith.models.directory import fingerprint
from tunesmith.settings import Settings
from tunesmith.store import Store

CHILD_SECONDS = 120.0
Tar = dict[str, bytes]


@pytest.fixture(scope="module")
def tiny(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.train.conftest import write_tiny_base  # which brings torch

    return write_tiny_base(base_dir, tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def settings(tmp_path: Path, tiny: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", bases={"tiny": str(tiny)}, base_model="tiny", disk_reserve_bytes=1000)


@pytest.fixture
def model(store: Store, settings: Settings, tiny: Path) -> str:
    lease = running_job(store, model="tiny", base_model="tiny", suffix="shops")
    folder = settings.paths.jobs / lease.job_id / "output" / "adapter"
    folder.parent.mkdir(parents=True)
    with_adapter(tiny, folder)
    write_manifest(folder, replace(read_manifest(folder), base_fingerprint=fingerprint(tiny)))
    return finish(store, lease, folder).planned_model


@pytest.fixture
def act(browser: TestClient, model: str) -> Callable[..., str]:
    def act(action: str, kind: str, status: int = 200, **more: str) -> str:
        form = {"name": model, "kind": kind, **more}
        answer = browser.post(f"/ui/model-exports/{action}", data=form, headers={"hx-request": "true"})
        assert answer.status_code == status, answer.text
        return answer.text

    return act


def ended(browser: TestClient, model: str) -> str:
    """The part of the page once nothing is being written."""
    found = ""

    def still() -> bool:
        nonlocal found
        found = browser.get("/ui/model-exports", params={"name": model}).text
        return "hx-trigger" not in found

    wait_until(still, CHILD_SECONDS, "the export's end")
    return found


def unpacked(content: bytes) -> Tar:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(one.name, archive.extractfile(one)) for one in archive]
        return {name: file.read() for name, file in members if file is not None}


def test_an_export_is_written_shown_downloaded_and_removed(
    browser: TestClient, act: Callable[..., str], model: str, store: Store, settings: Settings, tmp_path: Path
) -> None:
    page = browser.get(f"/ui/models/{model}").text
    assert all(f'id="start-{kind}"' in page for kind in ("peft", "safetensors", "gguf", "ollama"))
    began = act("start", "safetensors")
    assert 'hx-trigger="every 1s"' in began
    assert "Reading the model" in began
    assert 'id="start-peft" disabled' in began
    assert "one is written at a time" in act("start", "peft", 503)
    shown = ended(browser, model)
    row = store.models.get(model)
    assert row is not None
    wanted = tmp_path / "wanted"
    export(open_tuned(model, "tiny", row.adapter_dir, settings), "safetensors", wanted, quietly)
    answer = browser.get("/ui/model-exports/download", params={"name": model, "kind": "safetensors"})
    files = unpacked(answer.content)
    assert len(answer.content) == int(answer.headers["content-length"])
    (folder,) = {name.partition("/")[0] for name in files}
    assert answer.headers["content-disposition"] == f'attachment; filename="{folder}.tar"'
    assert {name.partition("/")[2]: data for name, data in files.items()} == {
        str(path.relative_to(wanted)): path.read_bytes() for path in wanted.rglob("*") if path.is_file()
    }
    assert "Download (" in shown
    assert (settings.paths.exports.stat().st_mode & 0o777, len([*settings.paths.exports.glob(".*")])) == (0o700, 0)
    assert "Download (" not in act("remove", "safetensors")
    assert [path.name for path in settings.paths.exports.iterdir()] == ["lock"]


def test_a_cancelled_export_leaves_nothing_and_frees_its_place(
    browser: TestClient, act: Callable[..., str], model: str, settings: Settings
) -> None:
    act("start", "gguf", width="q8_0")
    began = time.monotonic()
    assert "hx-trigger" not in act("remove", "gguf")
    assert time.monotonic() - began < 5
    assert [path.name for path in settings.paths.exports.iterdir()] == ["lock"]
    act("start", "gguf", width="f16")  # the place is free, with the lock of a killed child
    shown = ended(browser, model)
    assert re.search(r"Ready\s*· f16", shown)
    answer = browser.get("/ui/model-exports/download", params={"name": model, "kind": "gguf"})
    assert answer.content[:4] == b"GGUF"
    assert answer.headers["content-disposition"].endswith('.gguf"')


def test_what_cannot_be_written_is_told_at_its_format(
    browser: TestClient, act: Callable[..., str], model: str, settings: Settings
) -> None:
    weights = next((settings.paths.jobs).rglob("adapter_model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    act("start", "peft")
    shown = ended(browser, model)
    assert "damaged" in shown
    assert 'id="start-peft"' in shown
    assert act("start", "peft", 400, width="f1").count("There are no weights &#39;f1&#39;") == 1
    gone = browser.get("/ui/model-exports/download", params={"name": model, "kind": "peft"})
    assert gone.status_code == 404
    assert "Prepare it again" in gone.text


def test_only_the_projects_members_export(sign_in: SignIn, browser: TestClient, model: str, store: Store) -> None:
    reader = sign_in("read-only")
    page = reader.get(f"/ui/models/{model}").text
    assert "writing a model takes a member" in page
    assert 'id="start-' not in page
    other = sign_in("owner", project=store.projects.create("other").id)
    form = {"name": model, "kind": "peft"}
    assert reader.post("/ui/model-exports/start", data=form).status_code == 403
    assert reader.get("/ui/model-exports/download", params=form).status_code == 403
    assert other.post("/ui/model-exports/start", data=form).status_code == 404
    assert browser.post("/ui/model-exports/start", data={**form, "kind": "../x"}).status_code == 400
    assert browser.post("/ui/model-exports/start", data=form, headers={"x-csrf-token": "no"}).status_code == 403


def test_old_exports_and_those_of_gone_models_are_swept(store: Store, settings: Settings, model: str) -> None:
    service, folder = Exports(store, settings), settings.paths.exports
    folder.mkdir(parents=True)
    for name, kind in ((model, "peft"), (model, "gguf"), ("ft:tiny:acme::gone", "peft")):
        (folder / name_of(name, kind)).mkdir()  # type: ignore[arg-type]
        write_state(folder, State(name, kind, "auto", "done"))  # type: ignore[arg-type]
    old = folder / f"{name_of(model, 'gguf')}.json"
    kept = json.loads(old.read_text())
    old.write_text(json.dumps({**kept, "ended_at": kept["ended_at"] - KEPT_SECONDS}))
    (folder / ".left-abc").mkdir()
    assert service.sweep() == 2
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {name_of(model, "peft")}
    assert [*service.states(model)] == ["peft"]
