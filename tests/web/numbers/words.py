"""A page's words, and which numbers among them nobody has accounted for."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from html.parser import HTMLParser

from tunesmith.jsonvalue import JsonValue
from tunesmith.web.language import CATALOGUES

UNSEEN = frozenset({"script", "style", "template", "pre", "textarea"})  # of texts: rows, answers, lines to copy
EMPTY = frozenset({"br", "hr", "img", "input", "link", "meta"})
SHORTEST = 4  # of a string of the API that may account for a number


class Words(HTMLParser):
    """The words of `main`, or of a part of a page, with the labels of drawings; a moment is `@` and its seconds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._found: list[str] = []
        self._unseen = 0
        self.feed(page.split("<main", 1)[-1].split("</main>")[0].join(("<main", "</main>")))
        self.text = " ".join(" ".join(self._found).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self._unseen or tag in UNSEEN or tag == "time" or given.get("class") == "model-card":
            self._unseen += tag not in EMPTY
        if self._unseen > 1:
            return
        if tag == "time":
            when = datetime.fromisoformat(given["datetime"] or "")
            self._found.append(f"@{int(when.timestamp())}")
        if tag in ("progress", "meter"):
            self._found.append(f"{given['value']} of {given['max']}")
        self._found.append(f" {given.get('aria-label') or ''} ")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - 1)
        self._found.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._found.append(data)


def missing(words: str, facts: Iterable[str]) -> list[str]:
    """Those of the facts that the page does not say."""
    return [one for one in facts if not re.search(_whole(one), words)]


def unexplained(words: str, facts: Iterable[str], answers: JsonValue) -> list[str]:
    """What is around each number that is in no fact, in no string or moment of the API, and in no text of ours."""
    strings = {one for one in _strings(answers) if len(one) >= SHORTEST and re.search(r"\d", one)}
    texts = {one for one in CATALOGUES["en"].values() if isinstance(one, str) and "{" not in one}
    known = {*facts, *(" ".join(one.split()) for one in strings), *(one for one in texts if re.search(r"\d", one))}
    for one in sorted(known, key=len, reverse=True):
        words = re.sub(_whole(one), "¤", words)
    return [words[max(0, one.start() - 60) : one.end() + 20] for one in re.finditer(r"[\d.,]*\d", words)]


def _whole(fact: str) -> str:
    """The fact, not a part of a longer number."""
    return rf"(?<![\d.,@]){re.escape(fact)}(?!\d|[.,]\d)"


def _strings(value: JsonValue) -> Iterator[str]:
    """All strings in an answer; of its whole numbers those that may be moments."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int) and value > 10**9:
        yield f"@{value}"
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
