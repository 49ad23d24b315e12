"""The mask preview and the HTML report: they show what is trained, and nothing in a file gets out of its place."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.mask_preview import preview_rows
from tunesmith.cli.output.html_report import report_html
from tunesmith.estimate.job_estimate import estimate, resolve_hyperparameters
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.renderer import Renderer
from tunesmith.rows.row import ChatRow, parse_row

MESSAGES: list[JsonValue] = [
    {"role": "system", "content": "你好 <|im_end|> é"},
    {"role": "user", "content": "今年武汉的冬天冷不冷?"},
    {"role": "assistant", "content": "不冷 🐟", "weight": 0},
    {"role": "user", "content": "<script>alert(1)</script>"},
    {"role": "assistant", "content": "无处不在!"},
]
ROW: JsonObject = {"messages": MESSAGES}


def file_of(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "<b>rows</b>.jsonl".replace("/", "_")
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_spans_are_the_tokens_and_flags_that_are_trained(tmp_path: Path, renderer: Renderer) -> None:
    (shown,) = preview_rows(file_of(tmp_path, ROW), renderer, 1)
    row = parse_row(ROW)
    assert isinstance(row, ChatRow)
    rendered = renderer.row(row)
    flags = [span.learned for span in shown.spans for _ in span.pieces]
    assert flags == [weight > 0 for weight in rendered.weights]
    assert "".join(span.text for span in shown.spans) == b"".join(map(renderer.token_bytes, rendered.ids)).decode()
    assert [span.text for span in shown.spans if span.learned] == ["无处不在!<|im_end|>"]


def test_rows_that_cannot_be_trained_become_notes(tmp_path: Path, renderer: Renderer) -> None:
    shown = list(preview_rows(file_of(tmp_path, "{", {"messages": []}, "", ROW), renderer, 3))
    assert [(one.line, bool(one.note)) for one in shown] == [(1, True), (2, True), (4, False)]


def test_a_preference_row_shows_both_answers(tmp_path: Path, renderer: Renderer) -> None:
    outputs = {f"{name}_output": [{"role": "assistant", "content": name}] for name in ("preferred", "non_preferred")}
    row = {"input": {"messages": [{"role": "user", "content": "q"}]}, **outputs}
    shown = list(preview_rows(file_of(tmp_path, row), renderer, 5))
    assert [one.title for one in shown] == ["preferred", "non-preferred"]
    assert [one.spans[-1].text for one in shown] == ["preferred<|im_end|>", "non_preferred<|im_end|>"]


class Document(HTMLParser):
    """Counts the elements and collects every address that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: dict[str, int] = {}
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] = self.elements.get(tag, 0) + 1
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]


def test_the_html_report_stands_alone_and_escapes_what_the_file_says(tmp_path: Path, renderer: Renderer) -> None:
    bad = {"messages": [{"role": "<img src=x onerror=alert(1)>", "content": "x"}]}
    rows = [{"messages": [MESSAGES[1], *MESSAGES[1:], *MESSAGES[3:] * n]} for n in range(12)]
    path = file_of(tmp_path, ROW, *rows, bad)
    report = check_file(path, CheckOptions(renderer=renderer, max_tokens=2048))
    found = estimate(report, resolve_hyperparameters({}, report, "supervised"))
    html = report_html(report, found, list(preview_rows(path, renderer, 2)))
    document = Document()
    document.feed(html)
    assert document.fetched == []
    assert "script" not in document.elements
    assert "img" not in document.elements
    assert "b" not in document.elements
    assert not re.search(r"https?://|url\(|@import", html)
    assert document.elements["svg"] == 4
    assert "unrecognized_role" in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_html_of_an_empty_report_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    html = report_html(check_file(path))
    assert html.rstrip().endswith("</html>")
    assert "1 error to fix" in html


def test_percentiles_are_what_they_are_called(tmp_path: Path) -> None:
    """The published notebook prints the 10th and 90th percentile as p5 and p95."""

    def row(words: int) -> dict[str, object]:
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": " x" * words}]
        return {"messages": turns}

    spread = check_file(file_of(tmp_path, *[row(words) for words in range(1, 102)])).per_row.learned_tokens
    assert spread is not None
    assert (spread.p5, spread.p10, spread.median, spread.p90, spread.p95) == (6, 11, 51, 91, 96)
    assert (spread.minimum, spread.maximum, spread.mean) == (1, 101, 51)
    assert sum(spread.counts) == spread.count == 101
