import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.render.bases import make_base
from tests.render.native.families import family_base

from tunesmith.errors import ServerFault, WeightsMissing
from tunesmith.models.adapters import AdapterManifest, write_adapter, write_manifest
from tunesmith.models.directory import fingerprint
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.system.memory import total_memory


class QuietEngine:
    context_length = 16
    fingerprint = "quiet"

    def __init__(self) -> None:
        self.closed = False

    def submit(self, request: GenerateRequest) -> Generation:
        return Generation(request.n)

    def close(self) -> None:
        self.closed = True

    def join(self, timeout: float | None = None) -> None: ...


class Loader:
    """Counts what it loads; may be told to wait or to fail."""

    def __init__(self) -> None:
        self.loaded: list[Path] = []
        self.engines: dict[Path, QuietEngine] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, base_dir: Path, settings: Settings) -> QuietEngine:
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.loaded.append(base_dir)
        self.engines[base_dir] = QuietEngine()
        return self.engines[base_dir]


def write_weights(directory: Path, mebibytes: int) -> None:
    """Weights that would take so much in float32, stored in bfloat16 as the hub's are."""
    values = torch.zeros(mebibytes * 2**18, dtype=torch.bfloat16)
    save_file({"model.norm.weight": values}, directory / "model.safetensors")


@pytest.fixture
def bases(base_dir: Path, tmp_path: Path) -> list[Path]:
    """Three bases with the real template, and weights of half a mebibyte, in the file and in memory."""
    template = json.loads((base_dir / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    directories = []
    for name in "abc":
        directory = make_base(base_dir, tmp_path / name, template)
        for file in ("config.json", "generation_config.json"):
            (directory / file).symlink_to(base_dir / file)
        write_weights(directory, mebibytes=1)
        directories.append(directory)
    return directories


@pytest.fixture
def renderer(bases: list[Path]) -> Renderer:
    """The first one's."""
    return load_renderer(bases[0])


def test_a_base_is_loaded_once_however_many_ask_at_once(bases: list[Path], tmp_path: Path) -> None:
    loader = Loader()
    loader.gate.clear()
    pool = Pool(Settings(data_dir=tmp_path), loader)
    threads = [threading.Thread(target=pool.open, args=(bases[0],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    loader.gate.set()
    for thread in threads:
        thread.join(10)
    assert loader.loaded == [bases[0]]


def test_the_least_recently_used_base_goes_when_room_is_short(bases: list[Path], tmp_path: Path) -> None:
    loader, (a, b, c) = Loader(), bases
    pool = Pool(Settings(data_dir=tmp_path, serve_memory_mib=1), loader)
    for base in (a, b, a, c):
        pool.open(base)
    assert pool.resident() == (a, c)
    assert [loader.engines[base].closed for base in (a, b, c)] == [False, True, False]


def test_a_base_larger_than_the_limit_is_still_served(bases: list[Path], tmp_path: Path) -> None:
    write_weights(bases[0], mebibytes=3)
    pool = Pool(Settings(data_dir=tmp_path, serve_memory_mib=2), Loader())
    pool.open(bases[0])
    assert pool.resident() == (bases[0],)
    assert pool.open(bases[0]).tuned == "none"


def test_a_failed_load_is_tried_again(bases: list[Path], tmp_path: Path) -> None:
    loader = Loader()
    pool = Pool(Settings(data_dir=tmp_path), loader)
    loader.error = ServerFault("no room")
    with pytest.raises(ServerFault, match="no room"):
        pool.open(bases[0])
    loader.error = None
    assert pool.open(bases[0]).engine is loader.engines[bases[0]]


@pytest.mark.parametrize(
    ("base_fingerprint", "renderer_name", "words"),
    [("other", None, "trained on another version"), (None, "other", "trained with the renderer 'other'")],
)
def test_an_adapter_of_something_else_is_refused(
    bases: list[Path],
    renderer: Renderer,
    tmp_path: Path,
    base_fingerprint: str | None,
    renderer_name: str | None,
    words: str,
) -> None:
    manifest = AdapterManifest(
        base_name="a",
        base_fingerprint=base_fingerprint or fingerprint(bases[0]),
        renderer=renderer_name or renderer.name,
        rank=8,
        alpha=16.0,
        target_modules=("q_proj",),
        step=1,
    )
    write_adapter(tmp_path / "adapter", {}, manifest)
    with pytest.raises(ServerFault, match=words):
        Pool(Settings(data_dir=tmp_path), Loader()).open(bases[0], tmp_path / "adapter")


def test_a_base_whose_files_cannot_be_read_leaves_nobody_waiting(bases: list[Path], tmp_path: Path) -> None:
    weights = bases[0] / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"{")
    pool = Pool(Settings(data_dir=tmp_path), Loader())
    for _ in range(2):
        with pytest.raises(json.JSONDecodeError):
            pool.open(bases[0])
    weights.write_bytes(whole)
    pool.open(bases[0])
    assert pool.resident() == (bases[0],)


def test_closing_unloads_everything(bases: list[Path], tmp_path: Path) -> None:
    loader = Loader()
    pool = Pool(Settings(data_dir=tmp_path), loader)
    pool.open(bases[0])
    pool.close()
    assert pool.resident() == ()
    assert loader.engines[bases[0]].closed


def test_tuned_weights_are_served_as_a_base_of_their_own(bases: list[Path], renderer: Renderer, tmp_path: Path) -> None:
    manifest = AdapterManifest("a", fingerprint(bases[0]), renderer.name, 0, 0.0, (), step=1, adapter="none")
    write_manifest(bases[1], replace(manifest, sha256="of b"))
    write_manifest(bases[2], replace(manifest, sha256="of c"))
    pool = Pool(Settings(data_dir=tmp_path), Loader())
    b, c = pool.open(bases[0], bases[1]), pool.open(bases[2], bases[2])
    assert pool.resident() == (bases[1], bases[2])  # the base below them is not needed
    assert b.adapter is c.adapter is None
    assert b.fingerprint != c.fingerprint
    assert (b.tuned, c.tuned, pool.open(bases[2]).tuned) == ("of b", "of c", "of c")  # also as a base of its own
    on_top = AdapterManifest("a", fingerprint(bases[1]), renderer.name, 8, 16.0, ("q_proj",), step=1)
    written = write_adapter(tmp_path / "adapter", {}, on_top)
    adapted = pool.open(bases[1], tmp_path / "adapter")
    assert (adapted.adapter, adapted.tuned) == (tmp_path / "adapter", written.sha256)
    with pytest.raises(ServerFault, match="trained on another version"):
        pool.open(bases[2], tmp_path / "adapter")


def test_different_bases_are_loaded_at_the_same_time(bases: list[Path], tmp_path: Path) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def load(base_dir: Path, settings: Settings) -> QuietEngine:
        meeting.wait()  # breaks unless both are here
        return QuietEngine()

    pool = Pool(Settings(data_dir=tmp_path), load)
    threads = [threading.Thread(target=pool.open, args=(base,)) for base in bases[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not meeting.broken
    assert {*pool.resident()} == {*bases[:2]}


def test_a_base_that_is_being_loaded_is_never_evicted(bases: list[Path], tmp_path: Path) -> None:
    loader, (slow, quick) = Loader(), bases[:2]
    pool = Pool(Settings(data_dir=tmp_path, serve_memory_mib=1), loader)
    loader.gate.clear()
    opened: list[object] = []
    thread = threading.Thread(target=lambda: opened.append(pool.open(slow).engine))
    thread.start()
    while slow not in pool.resident():
        time.sleep(0.001)
    other = threading.Thread(target=pool.open, args=(quick,))
    other.start()  # there is no room for both
    loader.gate.set()
    thread.join(10)
    other.join(10)
    assert opened == [loader.engines[slow]]
    assert loader.loaded.count(slow) == 1


def test_bases_without_room_beside_each_other_are_loaded_one_after_the_other(bases: list[Path], tmp_path: Path) -> None:
    """Together they would take more than the limit while they are loaded, and until another one is asked for."""
    under_way: set[Path] = set()
    together: list[int] = []

    def load(base_dir: Path, settings: Settings) -> QuietEngine:
        under_way.add(base_dir)
        time.sleep(0.05)  # for another load to begin
        together.append(len(under_way))
        under_way.discard(base_dir)
        return QuietEngine()

    write_weights(bases[0], mebibytes=4)
    pool = Pool(Settings(data_dir=tmp_path, serve_memory_mib=2), load)  # room for the first alone, or for both others
    threads = [threading.Thread(target=pool.open, args=(base,)) for base in bases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(together) == 3
    assert max(together) <= 2
    held = sum(pool.counted_bytes(base) for base in pool.resident())
    assert held <= pool.limit_bytes, pool.resident()


def test_closing_while_a_base_is_loaded_unloads_it_afterwards(bases: list[Path], tmp_path: Path) -> None:
    loader = Loader()
    loader.gate.clear()
    pool = Pool(Settings(data_dir=tmp_path), loader)
    thread = threading.Thread(target=pool.open, args=(bases[0],))
    thread.start()
    while not pool.resident():
        time.sleep(0.001)
    pool.close()
    loader.gate.set()
    thread.join(10)
    assert loader.engines[bases[0]].closed


def test_everybody_who_waits_for_a_failed_load_gets_its_error(bases: list[Path], tmp_path: Path) -> None:
    loader = Loader()
    loader.error = ServerFault("no room")
    loader.gate.clear()
    pool = Pool(Settings(data_dir=tmp_path), loader)
    failures: list[str] = []

    def ask() -> None:
        try:
            pool.open(bases[0])
        except ServerFault as error:
            failures.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    while not pool.resident():
        time.sleep(0.001)
    loader.gate.set()
    for thread in threads:
        thread.join(10)
    assert failures == ["no room"] * 3
    assert pool.resident() == ()
    pool.close()


def test_answers_have_a_fingerprint_of_base_and_adapter(bases: list[Path], renderer: Renderer, tmp_path: Path) -> None:
    pool = Pool(Settings(data_dir=tmp_path), Loader())
    seen = {pool.open(bases[0]).fingerprint}
    for number in (1, 2):
        manifest = AdapterManifest("a", fingerprint(bases[0]), renderer.name, 8, 16.0, ("q_proj",), step=1)
        tensors = {"base_model.model.x.lora_A.weight": torch.full((8, 8), float(number))}
        write_adapter(tmp_path / str(number), tensors, manifest)
        opened = pool.open(bases[0], tmp_path / str(number))
        assert opened.adapter == tmp_path / str(number)
        seen.add(opened.fingerprint)
    assert len(seen) == 3
    assert seen == {pool.open(bases[0], adapter).fingerprint for adapter in (None, tmp_path / "1", tmp_path / "2")}
    assert all(len(digest) == 10 for digest in seen)


def test_adapters_share_their_base(bases: list[Path], renderer: Renderer, tmp_path: Path) -> None:
    loader = Loader()
    pool = Pool(Settings(data_dir=tmp_path), loader)
    manifest = AdapterManifest("a", fingerprint(bases[0]), renderer.name, 8, 16.0, ("q_proj",), step=1)
    for name in ("one", "two"):
        write_adapter(tmp_path / name, {}, manifest)
    engines = {id(pool.open(bases[0], adapter).engine) for adapter in (None, tmp_path / "one", tmp_path / "two")}
    assert len(engines) == len(loader.loaded) == 1


def test_without_a_setting_half_of_the_memory_is_for_bases(tmp_path: Path) -> None:
    assert Pool(Settings(data_dir=tmp_path), Loader()).limit_bytes == total_memory() // 2


def test_an_adapter_that_is_gone_is_a_sentence(bases: list[Path], tmp_path: Path) -> None:
    loader = Loader()
    with pytest.raises(ServerFault, match="no usable adapter"):
        Pool(Settings(data_dir=tmp_path), loader).open(bases[0], tmp_path / "gone")
    assert loader.loaded == []  # nothing was loaded for it


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_tuned_weights_without_a_file_are_a_sentence(
    bases: list[Path], renderer: Renderer, tmp_path: Path, file: str
) -> None:
    manifest = AdapterManifest("a", fingerprint(bases[0]), renderer.name, 0, 0.0, (), step=1, adapter="none")
    write_manifest(bases[1], replace(manifest, sha256="of b"))
    (bases[1] / file).unlink()
    loader = Loader()
    with pytest.raises(WeightsMissing, match=r"no usable weights: its .* is missing"):
        Pool(Settings(data_dir=tmp_path), loader).open(bases[0], bases[1])
    assert loader.loaded == []


def test_an_adapter_is_served_with_the_renderer_it_was_trained_with(
    base_dir: Path, bases: list[Path], tmp_path: Path
) -> None:
    base = family_base(base_dir, tmp_path, "tagged")
    shutil.copy(bases[0] / "config.json", base)
    shutil.copy(bases[0] / "model.safetensors", base)
    pool = Pool(Settings(data_dir=tmp_path), Loader())
    names = [load_renderer(base, native=native).name for native in (True, False)]
    assert names[0].startswith("chat-template-v3-")
    for name in names:
        manifest = AdapterManifest("a", fingerprint(base), name, 8, 16.0, ("q_proj",), step=1)
        write_adapter(tmp_path / name, {}, manifest)
        opened = pool.open(base, tmp_path / name)
        assert opened.renderer.name == name
        assert opened.grammars is pool.open(base, tmp_path / name).grammars
    assert pool.open(base).renderer.name == names[0]
