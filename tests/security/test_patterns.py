"""Each regular expression of the source takes time in proportion to its text, whatever the text."""

import re
import time

import pytest
from tests.security.patterns import Found, all_patterns, hard_texts, source_files

from tunesmith.web.sentences import LONGEST, translated

LENGTHS = (20, 400, 10_000)  # the first, since some take time that doubles with each character
QUICK = 0.02  # seconds for 10,000 characters; where time grows with the square it is 0.05 and more
# Made of something that is known only when they run, and why none of them is hard:
MADE_LATER = {
    "check/rules/pii_kinds.py _BEFORE + pattern + _AFTER": "the module's own list of secrets; the result is found",
    "check/rules/quality.py f\"[{re.escape(''.join(odd))}]\"": "one class of characters",
    "cli/settings_file.py f'\\\\s*\\\\[\\\\s*{re.escape(table)}\\\\s*\\\\]\\\\s*(#.*)?'": "the operator's own file",
    "cli/settings_file.py f\"\\\\s*({'|'.join(spellings)})\\\\s*=.*\"": "lines of the operator's own file",
    "render/vocabulary.py '|'.join((re.escape(token) for token in sorted(tokens, key=len, reverse=True))) or '(?!)'": (
        "literals of a base"
    ),
    "web/sentences.py pattern + re.escape(english[end:])": "the module's own sentences; the results are found",
    "evals/forgetting.py f'(?<![A-Za-z0-9]){re.escape(wanted)}(?![A-Za-z0-9])'": "a literal of our own questions",
    "models/weights.py f'^{name}\\\\b.*= None$'": "torch's own version.py",
    "render/formats/marked_bodies.py '[^,\\\\]}]*'": "one class of characters",
    "render/formats/table.py sign": "the module's own marks",
    "render/native/turn_ends.py '|'.join((re.escape(one) for one in marks if one)) or '(?!)'": "literals of a base",
    "render/renderer.py f'\\\\b{name}\\\\b'": "the module's own names",
    "rows/other_shapes/lost_text.py f'(?<!\\\\w){re.escape(text)}(?!\\\\w)'": "a literal",
    "serve/chat/schema_words.py pattern": "the module's own list, for llguidance's messages",
}


@pytest.fixture(scope="module")
def patterns() -> tuple[list[Found], list[str]]:
    """Found by the first test that needs them: it takes seconds, and each process of `make test` collects this file."""
    return all_patterns()


def seconds(found: Found, text: str) -> float:
    begun = time.thread_time()
    found.run(text)
    return time.thread_time() - begun


def hard(found: Found) -> str:
    """The first text for which the time is out of proportion; "" for none."""
    for length in LENGTHS:
        for text in hard_texts(found.pattern, length):
            if seconds(found, text) < QUICK:
                continue
            half = min(seconds(found, text[: len(text) // 2]) for _ in range(3))
            whole = min(seconds(found, text) for _ in range(3))
            if whole > QUICK and whole > 3 * half:
                return f"{text[:40]!r}… of {len(text)}: {whole:.2f} s, half of it {half:.2f} s"
    return ""


# Its sentences stand in one another, so that the time grows with the square of their number.
@pytest.mark.parametrize(
    "text", [" " * LONGEST, "a: 1 " * (LONGEST // 5), "Verdict: " * (LONGEST // 9)], ids=["blanks", "words", "nested"]
)
def test_the_longest_sentence_is_looked_up_at_once(text: str) -> None:
    begun = time.thread_time()
    translated("zh", text)
    assert time.thread_time() - begun < 1.0


@pytest.mark.parametrize("file", source_files())
def test_time_is_in_proportion_to_the_text(patterns: tuple[list[Found], list[str]], file: str) -> None:
    own = [one for one in patterns[0] if one.where.startswith(f"{file} ")]
    assert {one.where: found for one in own if (found := hard(one))} == {}


def test_patterns_that_are_made_later_are_known(patterns: tuple[list[Found], list[str]]) -> None:
    assert {*patterns[1]} == {*MADE_LATER}


def test_every_pattern_is_of_a_file_that_is_tried(patterns: tuple[list[Found], list[str]]) -> None:
    assert {one.where.partition(" ")[0] for one in patterns[0]} <= {*source_files()}
    assert len(patterns[0]) > 100


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"\s*=.*x$", r"\{\{\s*(\w+\s*)*\}\}", r"x*y"], ids=str)
def test_hard_patterns_are_recognised(pattern: str) -> None:
    assert hard(Found("here", re.compile(pattern), frozenset({"search"}))) != ""
