"""Moderation: texts judged in the 13 categories of OpenAI's moderation endpoint, before a job and on request.

`open_judge` gives the judge that the settings ask for: a service or guard model behind a URL (`safety_url`), else the
word rules that ship with Tunesmith (`safety_words`). `judge_rows` and `judge_file` judge a file's rows.

A judge says which categories and scripts it covers. A text that it cannot read and a category that it does not know
are reported as not covered, never as clean. See docs/safety.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, Protocol, TypeAlias

from tunesmith.errors import ServiceUnavailable
from tunesmith.settings import Settings

Mode: TypeAlias = Literal["off", "warn", "block"]

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`scores` are 0 to 1, only those above 0 are there; `flagged` are the categories the judge calls harmful."""

    scores: dict[str, float] = field(default_factory=dict)
    flagged: tuple[str, ...] = ()


CLEAN = Verdict()


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a judge can see. `languages` is a sentence for people."""

    categories: tuple[str, ...]
    languages: str

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in CATEGORIES if name not in self.categories)


class Judge(Protocol):
    @property
    def name(self) -> str:
        """Backend and version or model, as answers and reports show it."""
        ...

    @property
    def coverage(self) -> Coverage: ...

    def judge(self, texts: Sequence[str]) -> list[Verdict | None]:
        """A verdict for each text; None where it could not judge that one. JudgeUnavailable if it cannot judge now."""
        ...


class JudgeUnavailable(ServiceUnavailable):
    """The moderation service does not answer, or not in a form that can be read."""


def open_judge(settings: Settings) -> Judge:
    """The judge of these settings; made once and shared. It serves any number of threads."""
    if settings.moderation_url is None:
        return _offline()
    key = settings.moderation_api_key
    return _online(
        settings.moderation_url,
        settings.moderation_model,
        key.get_secret_value() if key else None,
        settings.moderation_parallel,
        settings.moderation_timeout,
    )


@cache
def _offline() -> Judge:
    from tunesmith.moderation.word_rules import WordJudge

    return WordJudge()


@cache
def _online(url: str, model: str | None, key: str | None, parallel: int, timeout: float) -> Judge:
    from tunesmith.moderation.services import url_judge

    return url_judge(url, model, key, parallel=parallel, timeout=timeout)
