"""Writes the tree of folders in README.md from the packages' own docstrings: `make docs`. A test compares the two."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
START, END = "<!-- tree: written by scripts/readme_tree.py -->\n```\n", "```\n<!-- end of tree -->"
NAME_WIDTH = 16
PACKAGE = "src/tunesmith/"

FOLDERS = {
    "tests/": "mirrors src/; contract/, sdk/ and fuzz/ drive real servers, acceptance/ kills processes",
    "bench/": "benchmarks, each beside a peer",
    "deploy/": "systemd unit, Containerfile, Compose, Kubernetes",
    "docs/": "documentation",
    "examples/": "the demo's dataset and scripts with official clients",
    "scripts/": "set-up, and what writes the generated pages",
}


def tree() -> str:
    """One line for each folder of the package, then one for each of the others."""
    package = ROOT / PACKAGE
    rooms = sorted({file.relative_to(package).parts[0] for file in _tracked() if file.parent != package})
    lines = [_line(f"  {room}/", _summary(package / room / "__init__.py")) for room in rooms]
    return "\n".join([PACKAGE, *lines, *(_line(name, text) for name, text in FOLDERS.items())]) + "\n"


def with_tree(text: str) -> str:
    """README's text with the current tree."""
    before, rest = text.split(START)
    return before + START + tree() + END + rest.split(END)[1]


def _tracked() -> list[Path]:
    """Only what is committed or about to be: an editor's stray file is not part of the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"{PACKAGE}*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def _summary(file: Path) -> str:
    """The first sentence of the docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].partition(". ")[0].strip().removesuffix(".")


def _line(name: str, text: str) -> str:
    return f"{name.ljust(NAME_WIDTH)} {text}"


if __name__ == "__main__":
    README.write_text(with_tree(README.read_text(encoding="utf-8")), encoding="utf-8")
