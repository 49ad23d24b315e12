"""Writes the file tree in README.md from the files' own docstrings: `make docs`. A test holds the two together."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
START, END = "<!-- tree: written by scripts/readme_tree.py -->\n```\n", "```\n<!-- end of tree -->"
WIDTH = 118

FOLDERS = {
    "tests/": "mirrors src/; contract/, sdk/ and fuzz/ ask real servers, acceptance/ kills processes",
    "bench/": "each benchmark: one command, a peer measured in the same run, a table",
    "docs/": "quickstart, command line, dataset format, API coverage, and how it works",
    "examples/": "the demo's dataset, and scripts that use the official clients; clients/ has other people's",
    "scripts/": "the environment, constraints.txt, and what writes docs/cli.md and this tree",
    ".ci/run": "continuous integration: set-up, `make lint`, `make test`",
}


def tree() -> str:
    """One line a source file, then one a folder for the rest."""
    lines = ["src/tunesmith/"]
    package = ROOT / "src" / "tunesmith"
    files = _tracked("src/tunesmith")
    folders = sorted({file.relative_to(package).parts[0] for file in files if len(file.relative_to(package).parts) > 1})
    single = [file for file in files if file.parent == package and file.name != "__init__.py"]
    lines += [_line(2, file.name, _summary(file)) for file in single]
    for folder in folders:
        lines.append(_line(2, f"{folder}/", _summary(package / folder / "__init__.py")))
        inside = [file for file in files if file.relative_to(package).parts[0] == folder]
        lines += [
            _line(4, file.relative_to(package / folder).as_posix(), _summary(file))
            for file in inside
            if file.name != "__init__.py" and "versions" not in file.parts
        ]
    return "\n".join([*lines, *(_line(0, name, text) for name, text in FOLDERS.items())]) + "\n"


def with_tree(text: str) -> str:
    """README's text with the tree of now."""
    before, rest = text.split(START)
    return before + START + tree() + END + rest.split(END)[1]


def _tracked(folder: str) -> list[Path]:
    """Only what is committed or about to be: a stray file of somebody's editor is not part of the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"{folder}/*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted({ROOT / name for name in listed if (ROOT / name).is_file()})


def _summary(file: Path) -> str:
    """The first sentence of the docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].partition(". ")[0].strip().removesuffix(".")


def _line(indent: int, name: str, text: str) -> str:
    """One line of at most WIDTH characters; a longer sentence ends at its last clause that fits."""
    start = f"{' ' * indent}{name.ljust(22 - indent)} "
    room = WIDTH - len(start)
    if len(text) > room:
        ends = [text.rfind(mark, 20, room) for mark in ("; ", ": ", ", ")]
        text = text[: max(ends)] if max(ends) > 0 else f"{text[: room - 1].rstrip()}…"
    return f"{start}{text}".rstrip()


if __name__ == "__main__":
    README.write_text(with_tree(README.read_text(encoding="utf-8")), encoding="utf-8")
