"""Compiled code on disk: whether it is there for the source as it is now."""

import importlib.util
import os
import shutil
import time
from functools import partial
from pathlib import Path

import pytest

from tunesmith.kernels.compiler import is_cached

SOURCE = """
from tunesmith.kernels.compiler import entry

@entry
def double(x: int) -> int:
    return 2 * x
"""


def test_code_is_cached_by_its_first_call_until_the_source_changes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "doubling.py"
    file.write_text(SOURCE, "utf-8")
    spec = importlib.util.spec_from_file_location("doubling", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not is_cached(module.double)
    assert module.double(21) == 42
    assert is_cached(module.double)
    request.addfinalizer(partial(shutil.rmtree, module.double.stats.cache_path))
    later = time.time() + 60
    os.utime(file, (later, later))
    assert not is_cached(module.double)
