"""Sentences of the server, such as errors with their cure, as pages show them.

They are English. Those that every job says are known in the other languages; any other stays as it is, marked as
English.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

FOLDER = Path(__file__).parent / "texts" / "sentences"
LONGEST = 1_000  # characters of a sentence that is looked up
SEVERAL = "; "  # parts the verdict from what is said about how it was made
_TYPED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")  # what is to be typed, as in `tunesmith fix FILE`
# What programs are told; a page has its own lists.
_OF_THE_API = re.compile(r" ?GET /v1/[^.]{,200}\.| \((?:GET|POST|DELETE) /v1/[^)]{,200}\)")
_PLACE = re.compile(r"\{([a-z]+)\d?\}")
_KINDS = {"number": r"[-+]?[\d,.]*\d", "word": r"\S+", "said": r".+", "text": r".+"}  # of places in a pattern


class Known(NamedTuple):
    """A sentence that is known: what it looks like, and how it is said."""

    pattern: re.Pattern[str]
    said: str


@pass_context
def said(context: Context, sentence: object) -> Markup:
    """The sentence in the page's language, where it is known in that.

    What stands in backticks is code.
    """
    return spoken(str(context.get("language", "en")), str(sentence))


def spoken(language: str, sentence: str) -> Markup:
    """The sentence in a language, as HTML; one that is not known is marked as English."""
    sentence = _OF_THE_API.sub("", sentence)
    if language == "en" or not sentence:
        return _marked(sentence)
    found = translated(language, sentence)
    return Markup('<span lang="en">{}</span>').format(_marked(sentence)) if found is None else _marked(found)


def translated(language: str, sentence: str) -> str | None:
    """The sentence in a language; None where it is not known."""
    if len(sentence) > LONGEST:
        return None
    for known in KNOWN.get(language, ()):
        if found := known.pattern.fullmatch(sentence):
            return _filled(language, known.said, found.groupdict())
    first, parted, rest = sentence.partition(SEVERAL)
    if not parted or (begun := translated(language, first)) is None:
        return None
    return "；".join([begun, *(translated(language, one) or one for one in rest.split(SEVERAL))])


def _filled(language: str, said: str, values: Mapping[str, str]) -> str:
    shown = {
        name: (translated(language, value) or value) if name.startswith("said") else value
        for name, value in values.items()
    }
    return said.format(**shown)


def _marked(sentence: str) -> Markup:
    parts = _TYPED.split(sentence)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def _known(english: str, said: str) -> Known:
    """`Step {number} of {number2}` as a pattern; `{said}` is a sentence in its turn."""
    pattern, end = "", 0
    for place in _PLACE.finditer(english):
        name = place[0][1:-1]
        pattern += re.escape(english[end : place.start()]) + f"(?P<{name}>{_KINDS[place[1]]})"
        end = place.end()
    return Known(re.compile(pattern + re.escape(english[end:])), said)


KNOWN: Mapping[str, tuple[Known, ...]] = {
    file.stem: tuple(_known(english, said) for english, said in json.loads(file.read_text("utf-8")).items())
    for file in sorted(FOLDER.glob("*.json"))
}
