"""docs/bases.md names every alias that is built in, and the names that other pages call none are none."""

import re
from pathlib import Path

from tunesmith.settings import OPENAI_MODELS

DOCS = Path(__file__).resolve().parents[2] / "docs"
NO_ALIASES = {"gpt-4o", "gpt-4.1", "gpt-4", "gpt-4-turbo", "o4-mini"}


def test_the_built_in_aliases_are_those_of_the_page() -> None:
    section = (DOCS / "bases.md").read_text("utf-8").partition("\n## Aliases\n")[2]
    block = re.search(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert block is not None
    assert sorted(block[1].split()) == sorted(OPENAI_MODELS)


def test_names_that_the_page_calls_unknown_are_no_aliases() -> None:
    section = (DOCS / "bases.md").read_text("utf-8").partition("Other names of OpenAI's (")[2].partition(")")[0]
    assert set(re.findall(r"`([^`]+)`", section)) == NO_ALIASES
    assert not NO_ALIASES & set(OPENAI_MODELS)
