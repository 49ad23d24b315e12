"""Values of settings as people write them, made what the settings hold.

A wrong one raises ValueError with a sentence, which pydantic shows with the setting's name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence


def origins(given: str | list[str]) -> list[str]:
    """Origins of web pages: a list, or with commas between them as in the environment."""
    names = given.strip("[] ").replace('"', "").split(",") if isinstance(given, str) else given
    names = [name.strip().rstrip("/").lower() for name in names if name.strip()]
    for name in names:
        if name != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#@*]+", name):
            raise ValueError(f"{name!r} is not an origin, such as https://app.example or http://localhost:3000")
    return names


def host_names(given: str | list[str]) -> list[str]:
    """Names of this machine: a list, or with commas between them."""
    names = given.strip("[] ").replace('"', "").split(",") if isinstance(given, str) else given
    names = [name.strip().lower() for name in names if name.strip()]
    for name in names:
        if not re.fullmatch(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9])?", name):
            raise ValueError(f"{name!r} is not a host's name, such as tune.example (no scheme, no port)")
    return names


def launcher_address(given: str) -> str:
    """Where trainers run: `child`, or the address of a Ray cluster."""
    known = given in ("child", "auto", "local") or re.fullmatch(r"(ray://)?[A-Za-z0-9_.-]+:[0-9]{1,5}", given)
    if not known:
        raise ValueError(
            f"{given!r} is no place for trainers: give child (this machine), or a Ray cluster: its address as"
            " head:6379 or ray://head:10001, auto, or local"
        )
    return given


def lists_of_one(table: object) -> object:
    """A table of lists in which a text stands for a list of one.

    An empty text stands for none.
    """
    if not isinstance(table, Mapping):
        return table
    return {name: ([value] if value else []) if isinstance(value, str) else value for name, value in table.items()}


def server_urls(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """URLs, each once, without a trailing slash or /v1.

    Many people write those out of habit. An empty list removes the entry of another source.
    """
    for name, urls in given.items():
        for url in urls:
            if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
                raise ValueError(f"{url!r} of {name!r} is not the URL of a server, such as http://gpu:8000")
    # To the end: the worker validates once more what the server hands it.
    return {name: list(dict.fromkeys(map(_without_version, urls))) for name, urls in given.items() if urls}


def _without_version(url: str) -> str:
    while (shorter := url.rstrip("/").removesuffix("/v1")) != url:
        url = shorter
    return url


def dotted_names(table: object) -> object:
    """Joins names that TOML split at their dots.

    `gpt-4.1-mini = "x"` is a table in a table there.
    """
    return dict(_joined(table)) if isinstance(table, Mapping) else table


def _joined(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{rest}", inner) for rest, inner in _joined(value))
        else:
            yield name, value
