"""Compiled code on disk: whether it is there for the source as it is now."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tunesmith.kernels import compiler
from tunesmith.kernels.compiler import cache_dir, is_cached
from tunesmith.settings import Settings

SOURCE = """
from tunesmith.kernels.compiler import entry

@entry
def double(x: int) -> int:
    return 2 * x
"""

VARIANTS = """
from tunesmith.kernels.compiler import compiled, entry
from tunesmith.kernels.vectors import no_inline

def adding(term):
    @compiled
    def add(x):
        no_inline()
        return x + term

    return add

one, two, three = adding(1), adding(2), adding(3)

@entry
def all_three(x: int) -> int:
    return one(x) + 10 * two(x) + 100 * three(x)

@compiled
def alone(x: int) -> int:
    return three(x) + two(x) + one(x)
"""


def test_code_from_the_disk_calls_its_own_functions(tmp_path: Path) -> None:
    """Not those of the same name that the process has compiled before.

    Numba writes sets of options into names in the order of their hashes: the seed makes the names equal.
    """
    (tmp_path / "variants.py").write_text(VARIANTS, "utf-8")
    first, second = "import variants as v; ", "import variants as v; assert v.alone(0) == 6; "
    for line in (first, second):
        line += "print(v.all_three(0), sum(v.all_three.stats.cache_hits.values()))"
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {line}"]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "0"}
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        assert said == f"321 {int(line.startswith(second))}\n"


def test_code_is_cached_by_its_first_call_until_the_source_changes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "doubling.py"
    file.write_text(SOURCE, "utf-8")
    double = load(file)
    assert not is_cached(double)
    assert double(21) == 42
    assert is_cached(double)
    request.addfinalizer(partial(shutil.rmtree, double.stats.cache_path))  # type: ignore[attr-defined]
    later = time.time() + 60
    os.utime(file, (later, later))
    assert is_cached(load(file))  # as in a checkout made anew
    file.write_text(SOURCE.replace("2 * x", "3 * x"), "utf-8")
    assert not is_cached(load(file))


def test_another_checkout_of_the_same_sources_has_the_code_at_once(tmp_path: Path) -> None:
    code = "from tunesmith.kernels.doubling import double as d; print(d(21), sum(d.stats.cache_hits.values()))"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    said = []
    for place, source in (("one", SOURCE), ("two", SOURCE), ("three", f"{SOURCE}# other sources")):
        package = tmp_path / place / "tunesmith"
        shutil.copytree(Path(compiler.__file__).parent, package / "kernels")
        (package / "__init__.py").touch()
        (package / "kernels" / "doubling.py").write_text(source, "utf-8")
        environment["PYTHONPATH"] = str(package.parent)
        command = [sys.executable, "-c", code]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert said == ["42 0\n", "42 1\n", "42 0\n"]


def test_code_for_another_processor_is_not_here(tmp_path: Path) -> None:
    """As in a folder that machines share, or an image that was built on another one."""
    (tmp_path / "doubling.py").write_text(SOURCE, "utf-8")
    line = "from doubling import double; from tunesmith.kernels.compiler import is_cached; "
    said = []
    for what, processor in (("double(21)", "generic"), ("is_cached(double)", "generic"), ("is_cached(double)", "")):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {line}print({what})"]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        environment |= {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""} if processor else {}
        said.append(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip())
    assert said == ["42", "True", "False"]


def load(file: Path) -> Callable[[int], int]:
    spec = importlib.util.spec_from_file_location("doubling", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    double: Callable[[int], int] = module.double
    return double


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"TUNESMITH_CACHE_DIR": "/big/cache"}, "/big/cache"),
        ({"TUNESMITH_CACHE_DIR": "/big/cache", "NUMBA_CACHE_DIR": "/other"}, "/other"),
    ],
    ids=["ours", "Numba's"],
)
def test_code_is_kept_in_the_cache_directory(environment: dict[str, str], directory: str) -> None:
    assert cache_dir(environment) == Path(directory)


def test_code_is_kept_where_settings_keep_their_cache_by_default() -> None:
    assert cache_dir({}) == Settings.model_fields["cache_dir"].get_default(call_default_factory=True)


def test_numba_is_told_of_the_cache_directory(tmp_path: Path) -> None:
    code = "from tunesmith.kernels import compiler; print(compiler.config.CACHE_DIR)"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment["TUNESMITH_CACHE_DIR"] = str(tmp_path)
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(ran.stdout.strip()).parent == tmp_path / "kernels"
