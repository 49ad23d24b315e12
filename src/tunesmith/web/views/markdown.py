"""Markdown of our own cards as HTML: headings, tables, lists, code, paragraphs.

Everything else is text: a `<` in the source is a `<` on the page, links and HTML are not made.
"""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

HEADING = re.compile(r"(#{1,4}) +(.*)")
CELLS = re.compile(r"(?<!\\)\|")
RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+")
CODE = re.compile(r"`([^`]+)`")
HEADINGS = (Markup("<h1>{}</h1>"), Markup("<h2>{}</h2>"), Markup("<h3>{}</h3>"), Markup("<h4>{}</h4>"))
KINDS = (("| ", "table"), ("|", "table"), ("- ", "list"), ("    ", "code"))


def markdown(text: str, below: int = 0) -> Markup:
    """The text as HTML.

    `below`: by how much its headings are lowered, to fit into a page that has its own.
    """
    return Markup("\n").join(_block(kind, lines, below) for kind, lines in _blocks(text))


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Neighbouring lines of one kind; headings stand alone."""
    kind, lines = "", list[str]()
    for line in [*text.splitlines(), ""]:
        now = _kind(line)
        if (now != kind or now == "heading") and lines:
            yield kind, lines
            lines = []
        kind = now
        if line.strip():
            lines.append(line)


def _kind(line: str) -> str:
    if HEADING.fullmatch(line):
        return "heading"
    return next((kind for start, kind in KINDS if line.startswith(start)), "text")


def _block(kind: str, lines: list[str], below: int) -> Markup:
    match kind:
        case "heading":
            return _heading(lines[0], below)
        case "table":
            return _table(lines)
        case "list":
            items = (Markup("<li>{}</li>").format(_inline(line[2:])) for line in lines)
            return Markup("<ul>{}</ul>").format(Markup().join(items))
        case "code":
            return Markup("<pre>{}</pre>").format(_plain("\n".join(line[4:] for line in lines)))
    return Markup("<p>{}</p>").format(_inline(" ".join(lines)))


def _heading(line: str, below: int) -> Markup:
    found = HEADING.fullmatch(line)
    marks, text = found.groups() if found else ("#", line)
    return HEADINGS[min(len(marks) + below, len(HEADINGS)) - 1].format(_inline(text))


def _table(lines: list[str]) -> Markup:
    """The first cell of a row is its heading; a first line without words is no row."""
    rows = [_cells(line) for line in lines if not RULE.fullmatch(line.strip())]
    head = Markup()
    if len(lines) > 1 and RULE.fullmatch(lines[1].strip()):
        names, rows = rows[0], rows[1:]
        if any(names):
            cells = (Markup('<th scope="col">{}</th>').format(_inline(name)) for name in names)
            head = Markup("<thead><tr>{}</tr></thead>").format(Markup().join(cells))
    body = Markup().join(_row(cells) for cells in rows)
    return Markup('<div class="scroll" tabindex="0"><table>{}<tbody>{}</tbody></table></div>').format(head, body)


def _row(cells: list[str]) -> Markup:
    first = Markup('<th scope="row">{}</th>').format(_inline(cells[0]))
    return Markup("<tr>{}{}</tr>").format(
        first, Markup().join(Markup("<td>{}</td>").format(_inline(cell)) for cell in cells[1:])
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in CELLS.split(line.strip())[1:-1]] or [line]


def _inline(text: str) -> Markup:
    """`code` becomes code, the rest is text."""
    parts = CODE.split(text)
    code = Markup("<code>{}</code>")
    return Markup().join(code.format(_plain(part)) if place % 2 else _plain(part) for place, part in enumerate(parts))


def _plain(text: str) -> Markup:
    """The card escapes these two for Markdown; here they are themselves again, escaped for HTML."""
    return escape(text.replace("\\|", "|").replace("&lt;", "<"))
