"""Shows what rows teach, token by token: the renderer's own ids and weights."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunesmith.errors import DataError
from tunesmith.render.rendered import Rendered
from tunesmith.render.renderer import Renderer
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.raw_row import iter_rows
from tunesmith.rows.row import PreferenceRow, ReinforcementRow, Row, RowError, parse_row

_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {0x7F: 0x2421}
_UNSEEN = [*range(0x80, 0xA0), 0x061C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]
_VISIBLE = _CONTROLS | {code: f"\u27e8U+{code:04X}\u27e9" for code in _UNSEEN}


def visible(text: str) -> str:
    """The text with control characters and invisible ones replaced by visible signs.

    The former could take over a terminal.
    """
    return text.translate(_VISIBLE)


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens that are all learned, or all only read.

    `pieces` are their texts, one each.
    """

    learned: bool
    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The text of all its tokens."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Preview:
    """One rendering of a row.

    Preference rows have two, named by `title`, and a row has several parts where the base's template rewrites earlier
    answers. `note` says why there are no spans.
    """

    line: int
    title: str
    spans: tuple[Span, ...]
    cut_tokens: int = 0
    note: str = ""


def preview_rows(path: Path, renderer: Renderer, count: int, max_tokens: int | None = None) -> Iterator[Preview]:
    """Previews of the first `count` rows.

    A row that cannot be trained is shown as a note, not raised.
    """
    for line, row in islice(_rows(path), count):
        yield from _previews(line, row, renderer, max_tokens)


def preview_line(path: Path, renderer: Renderer, line: int, max_tokens: int | None = None) -> Iterator[Preview]:
    """Previews of the row in a line, as `preview_rows` has them.

    There are none where the line has no row.
    """
    for number, row in _rows(path, {line}):
        yield from _previews(number, row, renderer, max_tokens)


def _previews(line: int, row: Row | str, renderer: Renderer, max_tokens: int | None) -> Iterator[Preview]:
    if isinstance(row, str):
        yield Preview(line, "", (), note=row)
    else:
        yield from preview_row(line, row, renderer, max_tokens)


def preview_row(line: int, row: Row, renderer: Renderer, max_tokens: int | None = None) -> Iterator[Preview]:
    """Previews of one row; of one that cannot be trained a note."""
    try:
        yield from _renderings(line, row, renderer, max_tokens)
    except DataError as error:
        yield Preview(line, "", (), note=error.message)


def _rows(path: Path, only: Collection[int] | None = None) -> Iterator[tuple[int, Row | str]]:
    for raw in iter_rows(path, only):
        try:
            yield raw.line, parse_row(raw.value())
        except BrokenLine as broken:
            yield raw.line, broken.fault.message
        except RowError as error:
            yield raw.line, error.message


def _renderings(line: int, row: Row, renderer: Renderer, max_tokens: int | None) -> Iterator[Preview]:
    if isinstance(row, PreferenceRow):
        pair = renderer.pair(row, max_tokens)
        for title, answer in (("preferred", pair.preferred), ("non-preferred", pair.non_preferred)):
            weights = [0.0] * len(pair.prompt_ids) + answer.weights
            yield _preview(line, title, Rendered([*pair.prompt_ids, *answer.ids], weights, answer.truncated), renderer)
    elif isinstance(row, ReinforcementRow):
        ids = renderer.prompt(row.prompt, row.tools)
        yield _preview(line, "prompt", Rendered(ids, [0.0] * len(ids)), renderer)
    else:
        examples = renderer.examples(row, max_tokens).examples
        for number, one in enumerate(examples, 1):
            yield _preview(line, f"part {number} of {len(examples)}" if len(examples) > 1 else "", one, renderer)


def _preview(line: int, title: str, rendered: Rendered, renderer: Renderer) -> Preview:
    spans: list[Span] = []
    start = 0
    flags = [weight > 0 for weight in rendered.weights]
    for end in range(1, len(flags) + 1):
        if end == len(flags) or flags[end] != flags[start]:
            spans.append(Span(flags[start], _pieces(rendered.ids[start:end], renderer)))
            start = end
    return Preview(line, title, tuple(spans), rendered.truncated)


def _pieces(ids: list[int], renderer: Renderer) -> tuple[str, ...]:
    """Each token's text. One that ends inside a character shows nothing; the next shows the whole character."""
    pieces: list[str] = []
    held = b""
    for position, token in enumerate(ids):
        held += renderer.token_bytes(token)
        try:
            pieces.append(held.decode())
        except UnicodeDecodeError as error:
            waits = error.reason == "unexpected end of data" and position < len(ids) - 1
            pieces.append("" if waits else held.decode(errors="replace"))
            if waits:
                continue
        held = b""
    return tuple(pieces)
