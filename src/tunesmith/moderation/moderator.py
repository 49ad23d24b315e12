"""Moderation in the 13 categories of OpenAI's moderation endpoint.

`open_moderator` gives the moderator that the settings ask for: a service or guard model behind a URL (`services`),
else the word rules that ship with Tunesmith (`word_rules`). `moderate_file` moderates a file's rows.

A moderator says which categories and scripts it covers. A text that it cannot read and a category that it does not
know are reported as not covered, never as clean. See docs/safety.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from tunesmith.errors import ServiceUnavailable

if TYPE_CHECKING:
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
    """What a moderator says of a text.

    `scores` are 0 to 1, only those above 0 are there; `flagged` are the categories it calls harmful.
    """

    scores: dict[str, float] = field(default_factory=dict)
    flagged: tuple[str, ...] = ()


CLEAN = Verdict()


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a moderator covers. `languages` is a sentence for people."""

    categories: tuple[str, ...]
    languages: str

    @property
    def missing(self) -> tuple[str, ...]:
        """The categories that are not covered."""
        return tuple(name for name in CATEGORIES if name not in self.categories)


class Moderator(Protocol):
    """Tells harmful texts from harmless ones; used by any number of threads."""

    @property
    def name(self) -> str:
        """Backend and version or model, as answers and reports show it."""
        ...

    @property
    def coverage(self) -> Coverage:
        """The categories and languages that it judges."""
        ...

    def moderate(self, texts: Sequence[str]) -> list[Verdict | None]:
        """A verdict for each text, None where it cannot tell.

        Raises ModeratorUnavailable if it does not work now.
        """
        ...


class ModeratorUnavailable(ServiceUnavailable):
    """The moderation service does not answer, or not in a form that can be read."""


def open_moderator(settings: "Settings") -> Moderator:
    """The moderator that the settings ask for, made once and shared."""
    if settings.moderation_url is None:
        return offline_moderator()
    key = settings.moderation_api_key
    return _online(
        settings.moderation_url,
        settings.moderation_model,
        key.get_secret_value() if key else None,
        settings.moderation_parallel,
        settings.moderation_timeout,
    )


@cache
def offline_moderator() -> Moderator:
    """The word rules."""
    from tunesmith.moderation.word_rules import WordModerator

    return WordModerator()


@cache
def _online(url: str, model: str | None, key: str | None, parallel: int, timeout: float) -> Moderator:
    from tunesmith.moderation.services import url_moderator

    return url_moderator(url, model, key, parallel=parallel, timeout=timeout)
