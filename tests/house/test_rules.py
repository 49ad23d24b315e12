"""Rules of the house that no linter has: short functions, small rooms, docstrings that begin with one sentence."""

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 30
MOST_FILES = 15
MOST_FIRST_LINE = 80
# A kernel is one loop over numbers: cut into pieces it would be harder to read, and slower where Numba does not inline.
LONG_FUNCTIONS = "src/tunesmith/kernels"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


def python_files(*folders: str) -> list[Path]:
    """The tracked and new files of some folders, relative to the checkout."""
    command = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        *(f"{folder}/*.py" for folder in folders),
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted({Path(name) for name in listed if (ROOT / name).is_file()})


def tree(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text("utf-8"))


def functions(module: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def public(node: ast.Module | ast.ClassDef) -> Iterator[Documented]:
    """The module or class itself and what is public in it."""
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield from public(child) if isinstance(child, ast.ClassDef) else [child]


def test_functions_are_short() -> None:
    long = [
        f"{file}:{function.lineno} {function.name} has {lines} lines"
        for file in python_files("src")
        if not file.is_relative_to(LONG_FUNCTIONS) and "migrations" not in file.parts
        for function in functions(tree(file))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > MOST_LINES
    ]
    assert long == []


@pytest.mark.parametrize("folder", ["src", "tests", "bench", "scripts"])
def test_rooms_are_small(folder: str) -> None:
    """Migrations are a history, which only grows."""
    files = Counter(
        file.parent for file in python_files(folder) if file.name != "__init__.py" and "migrations" not in file.parts
    )
    assert {str(room): count for room, count in files.items() if count > MOST_FILES} == {}


def test_public_docstrings_begin_with_one_sentence() -> None:
    wrong = []
    for file in python_files("src"):
        for node in public(tree(file)):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if first and (len(first) > MOST_FIRST_LINE or not first.endswith((".", "?"))):
                wrong.append(f"{file}:{getattr(node, 'lineno', 1)}: {first}")
    assert wrong == []


def test_every_room_says_what_it_is_for() -> None:
    rooms = {
        file.parent for file in python_files("src") if "migrations" not in file.parts and file.parent != Path("src")
    }
    assert [str(room) for room in rooms if not ast.get_docstring(tree(room / "__init__.py"))] == []


def test_no_message_installs_a_package_that_no_index_has() -> None:
    """Tunesmith is installed from a clone or a wheel: `pip install 'tunesmith[wandb]'` finds nothing."""
    command = [
        "git",
        "grep",
        "-nE",
        r"pip install [^`]*tunesmith(\[|'|\"|`|$)",
        "--",
        "src",
        "docs",
        "README.md",
        "scripts",
    ]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout == ""
