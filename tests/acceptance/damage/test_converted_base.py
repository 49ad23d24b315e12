"""A converted base that is damaged is found when it is opened, and converted again."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.damage.ways import WAYS, keeping_its_time
from tests.models.conftest import write_gguf as write_gguf

from tunesmith.models import seal
from tunesmith.models.directory import _converted
from tunesmith.settings import Settings

FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The machine starts again: another boot id, and a process that knows nothing."""

    def restart() -> None:
        (tmp_path / "boot").write_text("another boot")
        monkeypatch.setattr(seal, "BOOT_ID", tmp_path / "boot")
        monkeypatch.setattr(seal, "_whole", {})

    return restart


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_has_the_base_converted_again(
    write_gguf: Callable[..., Path],
    tmp_path: Path,
    name: str,
    way: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gguf, settings = write_gguf(), Settings(cache_dir=tmp_path / "cache")
    made = _converted(gguf, settings)
    before = contents(made)
    assert tuple(before) == FILES
    way(made / name)
    with caplog.at_level(logging.WARNING):
        assert _converted(gguf, settings) == made
    assert contents(made) == before
    assert "is not as it was made; it was converted again" in caplog.text
    caplog.clear()
    assert _converted(gguf, settings) == made
    assert caplog.text == ""


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_after_a_restart_of_the_machine_bytes_are_read(
    write_gguf: Callable[..., Path], tmp_path: Path, way: Callable[[Path], None], restarted: Callable[[], None]
) -> None:
    gguf, settings = write_gguf(), Settings(cache_dir=tmp_path / "cache")
    made = _converted(gguf, settings)
    before = contents(made)
    keeping_its_time(way, made / "model.safetensors")
    restarted()
    _converted(gguf, settings)
    assert contents(made) == before


def test_whole_bytes_stay_after_a_restart_and_a_copy(
    write_gguf: Callable[..., Path], tmp_path: Path, restarted: Callable[[], None]
) -> None:
    gguf, settings = write_gguf(), Settings(cache_dir=tmp_path / "cache")
    weights = _converted(gguf, settings) / "model.safetensors"
    inode = weights.stat().st_ino
    weights.touch()
    restarted()
    assert (_converted(gguf, settings) / "model.safetensors").stat().st_ino == inode


def test_a_lost_or_damaged_seal_costs_a_conversion_only(write_gguf: Callable[..., Path], tmp_path: Path) -> None:
    gguf, settings = write_gguf(), Settings(cache_dir=tmp_path / "cache")
    made = _converted(gguf, settings)
    before = contents(made)
    for way in WAYS:
        way(seal.seal_file(made))
        seal._whole.clear()
        assert contents(_converted(gguf, settings)) == before
