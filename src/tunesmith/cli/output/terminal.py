"""How the commands print: consoles, JSON, tables, and numbers as people read them.

Results go to stdout; progress, notes and errors go to stderr, so that output can be piped.
"""

import json
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import StyleType
from rich.table import Column, Table
from rich.text import Text

# Line ends and tabs are harmless; anything else here may move the cursor, set the title or type for the user.
_SIGNS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {0x7F: 0x2421}
_CONTROLS = _SIGNS | {code: f"\u27e8U+{code:04X}\u27e9" for code in range(0x80, 0xA0)}
_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}  # json.dumps escapes the others itself
FOLDED_COLUMNS = 16  # a column of text is folded to no less; a narrower table is shown row by row
OUR_ID = re.compile(r"(ftjob|file|ckpt|key|proj|upload|chatcmpl)[-_]\w")  # is not broken over lines in a table
GAP = 2  # columns between a name and its value
PIPE_COLUMNS = 200  # output to a pipe is not folded at the 80 columns of a terminal that is not there


class SafeConsole(Console):
    """A console that shows control characters of names and texts as signs.

    Its own, for colours and bars, pass.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments to print."""
        segments = (_visible_segment(segment) for segment in super().render(renderable, options))
        yield from segments if self.is_terminal or self.stderr else _without_trailing_blanks(segments)


def _visible_segment(segment: Segment) -> Segment:
    shown = segment.text if segment.control else visible(segment.text)
    return segment if shown == segment.text else Segment(shown, segment.style)


def _without_trailing_blanks(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Takes away what tables add to make all lines equally long: files and pipes do not need it."""
    held: list[Segment] = []  # blanks, at the end of a line so far
    for text, style, control in segments:
        if control:
            yield Segment(text, style, control)
            continue
        for number, part in enumerate(text.split("\n")):
            if number:
                held = []
                yield Segment("\n")
            if kept := part.rstrip(" "):
                yield from held
                yield Segment(kept, style)
                held = []
            if blanks := part[len(kept) :]:
                held.append(Segment(blanks, style))
    yield from held


def visible(text: str) -> str:
    """The text with control characters replaced by signs.

    So none reaches the terminal. What models write and what files and jobs are called may hold some.
    """
    return text if text.isprintable() else text.replace("\r\n", "\n").translate(_CONTROLS)


@cache
def out() -> Console:
    """The console of results: stdout."""
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return SafeConsole(highlight=False, emoji=False, width=None if folded else PIPE_COLUMNS)


@cache
def err() -> Console:
    """The console of progress, notes and errors: stderr."""
    folded = sys.stderr.isatty() or "COLUMNS" in os.environ
    # no emoji: `ft:base:acme:fire:x` is a name
    return SafeConsole(stderr=True, highlight=False, emoji=False, width=None if folded else PIPE_COLUMNS)


def print_table(table: "Listing | Pairs | Table") -> None:
    """Prints a table on stdout; words wider than the terminal are not cropped."""
    out().print(table, crop=False)


def shows_secrets() -> bool:
    """Whether stdout is a terminal, where keys and links may be shown.

    They are not for a log: say in which file they are.
    """
    return sys.stdout.isatty()


def note(text: str) -> None:
    """Prints a dim remark on stderr."""
    err().print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def warn(text: str) -> None:
    """Prints a warning on stderr."""
    err().print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)


def complain(message: str) -> None:
    """Prints an error on stderr."""
    err().print(Text.assemble(("error:", "bold red"), " ", message), soft_wrap=True)


def shortened(text: str, most: int) -> str:
    """The text on one line in quotes, cut after `most` characters."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= most else f'"{line[:most].rstrip()}…"'


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Prints JSON on stdout, on one line with `indent=None` (for streams of objects)."""
    readable = sys.stdout.encoding.lower().replace("-", "").startswith("utf")  # elsewhere \u2026 keeps it whole
    text = json.dumps(value, ensure_ascii=not readable, indent=indent)
    sys.stdout.write(text.translate(_JSON_CONTROLS) + "\n")
    sys.stdout.flush()


def print_plain(text: str) -> None:
    """Prints text unwrapped and without markup, for what is copied or piped."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


class Listing(Table):
    """A table that fits into a narrow terminal.

    Where its columns do not, each row becomes a block of lines.
    """

    def add_row(
        self, *renderables: RenderableType | None, style: StyleType | None = None, end_section: bool = False
    ) -> None:
        """Adds a row; what is no text is shown as it is."""
        cells = (visible(one) if isinstance(one, str) else one for one in renderables)  # before they are measured
        super().add_row(*cells, style=style, end_section=end_section)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for column in self.columns:
            column.no_wrap |= any(isinstance(cell, str) and OUR_ID.match(cell) for cell in column.cells)
        if sum(self._least(console, column) for column in self.columns) <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            yield self._stacked()

    def _least(self, console: Console, column: Column) -> int:
        """The columns of the terminal that it needs at least, with the space behind it."""
        widths = [Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells)]
        if column.no_wrap:
            return max(width.maximum for width in widths) + self.padding[1]
        return min(max(width.minimum for width in widths), FOLDED_COLUMNS) + self.padding[1]

    def _stacked(self) -> "Pairs":
        names = [str(column.header) for column in self.columns]
        rows = zip(*(column.cells for column in self.columns), strict=True)
        return Pairs([list(zip(names, cells, strict=True)) for cells in rows])


@dataclass(frozen=True, slots=True)
class Pairs:
    """Blocks of names and values in two columns.

    A value with a word that does not fit beside its name, such as an id, follows below it: people copy ids, so no word
    is broken by us, only by the terminal.
    """

    blocks: Sequence[Sequence[tuple[str, RenderableType]]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max((cell_len(name) for block in self.blocks for name, _ in block), default=0)
        for number, block in enumerate(self.blocks):
            if number:
                yield ""
            for name, cell in block:
                value = console.render_str(cell) if isinstance(cell, str) else cell
                if Measurement.get(console, options, value).minimum + width + GAP <= options.max_width:
                    yield _beside(name, value, width)
                else:
                    yield Text(name, style="dim")
                    yield _unbroken(value)


def _beside(name: str, value: RenderableType, width: int) -> Table:
    grid = Table.grid(padding=(0, GAP))
    grid.add_column(style="dim", no_wrap=True, min_width=width)
    grid.add_column(overflow="fold")
    grid.add_row(name, value)
    return grid


def _unbroken(value: RenderableType) -> RenderableType:
    if isinstance(value, Text):
        value.overflow = "ignore"
    return value


def facts(values: Mapping[str, str]) -> Pairs:
    """Names and values in two columns; values may carry markup."""
    return Pairs([[(name, visible(value)) for name, value in values.items()]])


def listing(*columns: str, numbers: int = 0, right: Collection[str] = ()) -> Table:
    """A table without lines.

    Its last `numbers` columns and those named in `right` are aligned to the right.

    The first column is never broken over lines: it holds what people copy.
    """
    table = Listing(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(
            column,
            no_wrap=index == 0,
            overflow="fold",
            justify="right" if index >= len(columns) - numbers or column in right else "left",
        )
    return table


def not_here(base: str) -> str:
    """Says, with markup, how to get the missing weights of the base model `base`."""
    return f"[dim]{base} is not here to count: tunesmith models pull {base}[/dim]"


def plural(count: int, noun: str) -> str:
    """The count and its noun in words: `1 row`, `1,200 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percentages(shares: Mapping[str, float]) -> dict[str, int]:
    """Whole percentages of the shares, which sum to 100 (largest remainder)."""
    total = sum(shares.values())
    exact = {name: share / total * 100 if total else 0.0 for name, share in shares.items()}
    found = {name: int(percent + 1e-9) for name, percent in exact.items()}
    left = sorted(exact, key=lambda name: found[name] - exact[name])[: 100 - sum(found.values()) if total else 0]
    return {name: percent + (name in left) for name, percent in found.items()}


def duration(seconds: float) -> str:
    """Formats seconds as `7s`, `2m05s` or `1h02m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(count: int) -> str:
    """Formats bytes as `2.4 kB` or `98.1 MB`."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if round(value, 1) < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def ago(unix_time: int) -> str:
    """Formats a Unix time as `3m05s ago`, or as its date after two days."""
    seconds = time.time() - unix_time
    if seconds < 48 * 3600:
        return f"{duration(seconds)} ago"
    return time.strftime("%Y-%m-%d", time.localtime(unix_time))
