"""The texts of the pages in English and Chinese.

There is one catalogue for each, with the same keys: `jobs.title` is `title` in the file `texts/en/jobs.json`.

A text that counts something has two forms, `{"one": …, "other": …}`, chosen by `n`. `{name}` stands for a value.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request

LANGUAGES = {"en": "English", "zh": "中文"}
COOKIE = "tunesmith_language"
FOLDER = Path(__file__).parent / "texts"

Text = str | Mapping[str, str]


def _catalogue(folder: Path) -> Mapping[str, Text]:
    return {
        f"{file.stem}.{name}": found
        for file in sorted(folder.glob("*.json"))
        for name, found in json.loads(file.read_text("utf-8")).items()
    }


CATALOGUES: Mapping[str, Mapping[str, Text]] = {code: _catalogue(FOLDER / code) for code in LANGUAGES}


def text(language: str, key: str, **values: object) -> str:
    """The text of a key with its values filled in.

    Raises KeyError for an unknown key or a missing value.
    """
    found = CATALOGUES[language][key]
    if not isinstance(found, str):
        found = found["one" if values["n"] == 1 else "other"]
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
    return found.format(**shown) if shown else found


def language_of(request: Request) -> str:
    """The language that was chosen, else the browser's, else English."""
    chosen = request.query_params.get("language") or request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return chosen
    accepted = request.headers.get("accept-language", "")[:200].lower().split(",")
    wanted = [part.split(";")[0].strip()[:2] for part in accepted]
    return next((code for code in wanted if code in LANGUAGES), "en")
