"""Adds one entry to a table of tunesmith.toml; all other lines stay as they are."""

import json
import re
import tomllib
from pathlib import Path

from tunesmith.cli.exits import CommandError
from tunesmith.system.atomic_write import write_atomically


def set_entry(path: Path, table: str, name: str, value: str) -> None:
    """Writes `name = value` below `[table]`, in place of an earlier line of that name.

    The file is private afterwards if it was. Raises CommandError, with the lines to add by hand, for an unusual file.
    """
    before = path.read_text("utf-8") if path.is_file() else ""
    entry = f"{json.dumps(name, ensure_ascii=False)} = {json.dumps(value, ensure_ascii=False)}"
    after = _with_entry(before, table, name, entry)
    if _tables(after).get(table, {}).get(name) != value:
        raise CommandError(
            f"{path} is not written in a way that this command can change. Add by hand:\n[{table}]\n{entry}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    private = path.is_file() and not path.stat().st_mode & 0o077
    write_atomically(path, after.encode(), private=private)


def _with_entry(text: str, table: str, name: str, entry: str) -> str:
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?")
    start = next((number for number, line in enumerate(lines) if header.fullmatch(line)), None)
    if start is None:
        return "\n".join([*lines, *([""] if lines else []), f"[{table}]", entry, ""])
    following = range(start + 1, len(lines))
    end = next((number for number in following if lines[number].lstrip().startswith("[")), len(lines))
    spellings = (re.escape(name), f'"{re.escape(name)}"', f"'{re.escape(name)}'")
    same = re.compile(rf"\s*({'|'.join(spellings)})\s*=.*")
    kept = [line for line in lines[start + 1 : end] if not same.fullmatch(line)]
    return "\n".join([*lines[: start + 1], entry, *kept, *lines[end:], ""])


def _tables(text: str) -> dict[str, dict[str, object]]:
    try:
        return {name: value for name, value in tomllib.loads(text).items() if isinstance(value, dict)}
    except tomllib.TOMLDecodeError:
        return {}
