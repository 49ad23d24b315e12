"""Compiled code on disk that was damaged is compiled again, and computes the same."""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from numba import config

from tunesmith.kernels.compiler import is_cached

SOURCE = """
from tunesmith.kernels.compiler import entry

@entry
def cube(number):
    return number * number * number
"""


def load(path: Path) -> Callable[[int], int]:
    """The function, as a process that has just started finds it."""
    spec = importlib.util.spec_from_file_location("cubes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[[int], int] = module.cube
    return made


def hits(function: Callable[[int], int]) -> int:
    return sum(function.stats.cache_hits.values())  # type: ignore[attr-defined]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    return b""


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


@pytest.mark.parametrize("way", [cut, empty, flipped], ids=lambda way: way.__name__)
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_code_is_compiled_again_and_said_to_be(
    tmp_path: Path,
    suffix: str,
    way: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    source = tmp_path / "cubes.py"
    source.write_text(SOURCE)
    first = load(source)
    assert (first(7), hits(first), is_cached(first)) == (343, 0, True)
    again = load(source)
    assert (again(7), hits(again)) == (343, 1)
    (file,) = (tmp_path / "cache").rglob(f"*.{suffix}")
    file.write_bytes(way(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        found = load(source)
        assert (found(7), hits(found)) == (343, 0)
    assert f"the compiled code in {file} is damaged; it is compiled again" in caplog.text
    file.write_bytes(way(file.read_bytes()))
    assert not is_cached(load(source))  # another process is to compile it
    last = load(source)
    assert (last(7), is_cached(last)) == (343, True)
