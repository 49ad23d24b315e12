"""Commands in the documentation can be typed: programs, subcommands, options, make targets and files are there."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from tunesmith.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("cli.md", "settings.md", "api-coverage.md", "prices.md", "families.md")  # from the commands themselves
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    if page.name not in (*GENERATED, "CHANGELOG.md") and "decisions" not in page.parts  # of their day
)
SCRIPTS = sorted(one for folder in ("bench", "scripts", "examples") for one in (ROOT / folder).rglob("*.py"))
PIECES = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
NAMES = ("tunesmith", "make", "python", "python3")
OURS = ("bench", "scripts", "examples", "tests")  # folders of scripts
PLACEHOLDER = re.compile(r"[…<>\[\]{}]|^[A-Z_]+$")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in the text's code, without what stands in front of it and behind it."""
    for block, inline in PIECES.findall(text):
        for line in (block or inline).replace("\\\n", " ").splitlines():
            yield from _of_line(line)


def _of_line(line: str) -> Iterator[list[str]]:
    line = re.sub(r"\s#\s.*$", "", line.strip().removeprefix("$ "))
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that another line closes
        return
    while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] in ("sudo", "time", "exec", "env")):
        words = words[1:]
    part: list[str] = []
    for word in [*words, "|"]:
        if word in ("|", "&&", ";", "&", ">", "2>"):
            if part and _program(part[0]) is not None:
                yield part
            part = []
        else:
            part.append(word)


def _program(word: str) -> str | None:
    name = word.rpartition("/")[2]
    return name if name in NAMES else None


def fault(words: list[str]) -> str | None:
    """Why the command cannot be typed; None where it can."""
    match _program(words[0]):
        case "tunesmith":
            return _tunesmith_fault(words[1:])
        case "make":
            return _make_fault(words[1:])
        case _:
            return _script_fault(words[1:])


@cache
def _options() -> dict[tuple[str, ...], set[str]]:
    """The options of each command and group; the first is that of the program."""
    found: dict[tuple[str, ...], set[str]] = {}

    def walk(command: object, path: tuple[str, ...]) -> None:
        params = getattr(command, "params", [])
        found[path] = {"--help", "-h"}.union(*([*one.opts, *one.secondary_opts] for one in params))
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*path, name))

    walk(typer.main.get_command(app), ())
    return found


def _tunesmith_fault(words: list[str]) -> str | None:
    path: tuple[str, ...] = ()
    groups = {one[:-1] for one in _options() if one}
    while words and path in groups and not words[0].startswith("-") and not PLACEHOLDER.search(words[0]):
        if (*path, words[0]) not in _options():
            return f"there is no command {words[0]!r}"
        path, words = (*path, words[0]), words[1:]
    return _unknown_option(words, _options()[path])


def _make_fault(words: list[str]) -> str | None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for word in words:
        if "=" not in word and not word.startswith("-") and not PLACEHOLDER.search(word) and word not in targets:
            return f"there is no target {word!r}"
    return None


def _script_fault(words: list[str]) -> str | None:
    while words and words[0] in ("-q", "-u"):
        words = words[1:]
    if words[:1] == ["-m"] and len(words) > 1:
        words = [f"{words[1].replace('.', '/')}.py", *words[2:]]
    if not words or words[0].split("/")[0] not in OURS or PLACEHOLDER.search(words[0]):
        return None
    script = ROOT / words[0]
    if not script.is_file():
        return f"there is no file {words[0]}"
    source = _source(script, set())
    known = set(re.findall(r"""["'](--?[a-z][\w-]*)["']""", source))
    return _unknown_option(words[1:], known | {"--help"})


def _source(script: Path, seen: set[Path]) -> str:
    """The script, with what it imports of the scripts' folders, and our modules that it imports itself."""
    if script in seen or not script.is_file():
        return ""
    seen.add(script)
    text = script.read_text("utf-8")
    imported = re.findall(r"^\s*(?:from|import) ((?:bench|tests|tunesmith)\.[\w.]*)", text, re.MULTILINE)
    for path in (one.replace(".", "/") for one in imported):
        if path.startswith("tunesmith"):
            files = (ROOT / "src" / f"{path}.py", *(ROOT / "src" / path).glob("*.py"))
            text += "".join(one.read_text("utf-8") for one in files if one.is_file())
        else:
            text += _source(ROOT / f"{path}.py", seen)
    return text


def _unknown_option(words: list[str], known: set[str]) -> str | None:
    for word in words:
        name = word.partition("=")[0]
        if re.fullmatch(r"--[a-z][\w-]*", name) and name not in known:
            return f"there is no option {name}"
    return None


def test_commands_of_the_pages_exist() -> None:
    assert not wrong({page: page.read_text("utf-8") for page in PAGES})


def test_what_scripts_say_of_their_use_is_true() -> None:
    assert not wrong({script: usage(script) for script in SCRIPTS})


def wrong(texts: dict[Path, str]) -> list[tuple[str, str, str]]:
    """File, command and fault of what cannot be typed."""
    told = [(path, words) for path, text in texts.items() for words in commands(text)]
    return [(str(path.relative_to(ROOT)), " ".join(words), why) for path, words in told if (why := fault(words))]


def usage(script: Path) -> str:
    """The lines of the script's docstring that say how it is started; what may be left out is in brackets."""
    said = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    lines = [re.sub(r"[][]", " ", line) for line in said.splitlines() if re.match(r"\s*[\w./]*python3? ", line)]
    return "\n".join(["```", *lines, "```"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("`tunesmith trian FILE`", "there is no command 'trian'"),
        ("`tunesmith models lits`", "there is no command 'lits'"),
        ("```sh\ncat x | tunesmith jobs list --limt 3\n```", "there is no option --limt"),
        ("`OMP_NUM_THREADS=1 make nonsense X=1`", "there is no target 'nonsense'"),
        ("`.venv/bin/python bench/none.py`", "there is no file bench/none.py"),
        ("`python bench/train.py --stpes 2`", "there is no option --stpes"),
        ("`python -m bench.nothing`", "there is no file bench/nothing.py"),
        ("`python bench/train.py --steps 2`, `make test lint`, `tunesmith models list --json`", None),
    ],
    ids=["command", "subcommand", "option", "target", "bench", "its-option", "module", "right"],
)
def test_a_command_that_is_not_there_is_found(text: str, why: str | None) -> None:
    assert [found for words in commands(text) if (found := fault(words))] == ([] if why is None else [why])
