"""Writes docs/cli.md from the commands: `python scripts/cli_reference.py`.

A test fails when the page and the commands differ.
"""

from collections.abc import Iterator
from pathlib import Path

import typer.main

from tunesmith.cli.app import app
from tunesmith.cli.exits import Exit

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"

HEAD = """\
# The command line

<!-- Written by `python scripts/cli_reference.py`; edit the commands' help or that script instead. -->

`tunesmith COMMAND --help` shows the same. Results go to stdout; progress, notes and errors go to stderr, so that
`--json` can be piped. An error is one line: what is wrong, where, and how to fix it. `TUNESMITH_DEBUG=1` adds the
traceback.

## Which server

`train`, `chat`, `eval`, `jobs`, `files` and `models` talk to a server over HTTP, found in this order:

1. `--base-url`, or `TUNESMITH_BASE_URL`. If that server does not answer, the command ends with exit code 3.
2. The server running on the data directory (`--data-dir`, `TUNESMITH_DATA_DIR`); `serve` writes its address there.
3. Otherwise `train`, `chat`, `eval` and, for a job that goes on, `jobs watch` start a server of their own on a free
   loopback port, and stop it at the end. When `train` is detached with Ctrl-C, that server keeps running until its jobs
   are done and a minute has passed without a request. The other commands need no server then: they answer from the data
   directory.

The API key comes from `TUNESMITH_API_KEY`, or from the file `api-key` that the first start wrote into the data
directory.

These commands need no running server: `check`, `estimate`, `fix`, `models pull` and `version`; `demo`, `serve` and
`worker`, which are or start one; and `keys`, `projects`, `usage`, `import`,
`migrate`, `models replace`, `models card`, `export` and `reproduce`, which work on the data directory itself and so
must run on the server's machine.

## Exit codes

| code | meaning |
| --- | --- |
"""

MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the data is invalid, or what was asked for was refused; a setting that shows to be wrong only when"
    " it is used, such as storage or base_model",
    Exit.USAGE: "a wrong command, option or argument; a setting of the wrong form; a file that is not there",
    Exit.UNREACHABLE: "no server answers",
    Exit.JOB_FAILED: "the job failed or was cancelled",
    Exit.NO_KEY: "no API key, or the server refuses it",
    Exit.BUG: "a fault in Tunesmith itself",
    Exit.INTERRUPTED: "Ctrl-C; a job goes on without the command",
}


def reference() -> str:
    """The text of docs/cli.md."""
    codes = "".join(f"| {code.value} | {MEANINGS[code]} |\n" for code in Exit)
    return HEAD + codes + "\n## Commands\n" + "".join(_sections(typer.main.get_command(app), "tunesmith"))


def _sections(command: object, path: str) -> Iterator[str]:
    subcommands = getattr(command, "commands", None)
    if subcommands is not None:
        for name, subcommand in subcommands.items():
            yield from _sections(subcommand, f"{path} {name}")
        return
    arguments, options = [], []
    for parameter in command.params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "argument":
            arguments.append(parameter)
        elif parameter.name != "help":
            options.append(parameter)
    usage = " ".join(_argument(one) for one in arguments)
    yield f"\n### `{path}{f' {usage}' if usage else ''}`\n\n{_prose(command.help)}\n"  # type: ignore[attr-defined]
    rows = [(f"`{_argument(one)}`", one) for one in arguments] + [(_names(one), one) for one in options]
    if rows:
        yield "\n| | |\n| --- | --- |\n"
        yield from (f"| {name} | {_help(parameter)} |\n" for name, parameter in rows)


def _argument(parameter: object) -> str:
    name = parameter.metavar or parameter.name.upper()  # type: ignore[attr-defined]
    return name if parameter.required else f"[{name}]"  # type: ignore[attr-defined]


def _names(parameter: object) -> str:
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))  # type: ignore[attr-defined]


def _help(parameter: object) -> str:
    text = (parameter.help or "").replace("|", "\\|")  # type: ignore[attr-defined]
    default = parameter.default  # type: ignore[attr-defined]
    shown = default not in (None, False, True) and parameter.show_default  # type: ignore[attr-defined]
    if isinstance(parameter.show_default, str):  # type: ignore[attr-defined]
        return f"{text} Default: {parameter.show_default}."  # type: ignore[attr-defined]
    return f"{text} Default: `{default}`." if shown else text


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
