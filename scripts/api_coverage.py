"""Writes docs/api-coverage.md by asking the application: `make coverage-api`. A test fails when the page is stale.

What is asked is in openai_operations.json, what is sent in api_samples.py, the notes and the fields inside others in
the types of `tunesmith.wire` (api_notes.py). A field is

* refused: a sensible value of it is answered with an error;
* accepted: a sensible value is answered, and it has an effect: nonsense is refused, or the value comes back;
* ignored: a sensible value is answered, and nonsense makes no difference.

Fields inside others are asked too, but not counted. Not covered: whether an accepted field does all that OpenAI's
reference says.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import httpx
import httpx2
from api_notes import Notes
from api_samples import ALTERNATIVES, BESIDE, MARK, NONSENSE, QUERY, ROWS, SAMPLES
from api_world import PERMISSIONS, World, world

from tunesmith.system.log import configure_log

Json = dict[str, Any]
Response: TypeAlias = httpx.Response | httpx2.Response  # of a server, of the application in this process
Fate = Literal["accepted", "ignored", "refused", "missing"]
OK = (200, 201)
UNFIT = (NONSENSE, [MARK])  # for a field inside another one, which may be any object
ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "api-coverage.md"


@dataclass(slots=True)
class Found:
    """What the application did with one operation."""

    operation: Json
    notes: dict[str, str] = field(default_factory=dict)
    there: bool = False
    fates: dict[str, Fate] = field(default_factory=dict)
    inner: dict[str, Fate] = field(default_factory=dict)
    ours: list[str] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)
    chunks: list[object] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.operation['method']} {self.operation['path']}"

    def seen(self, path: str, answers: list[object]) -> Literal["always", "sometimes", "never"]:
        """Whether the field was in the answers that had the object around it."""
        has = [present for answer in answers for present in _presence(answer, path.split("."))]
        return "never" if not any(has) else "always" if all(has) else "sometimes"

    def shown(self) -> dict[str, str]:
        """Each field of the answer -> always, sometimes or never; a stream's bear its name."""
        plain = {path: self.seen(path, self.answers) for path in self.operation["answer"]}
        plain |= {f"stream: {path}": self.seen(path, self.chunks) for path in self.operation["stream"]}
        never = [name for name, seen in plain.items() if seen == "never"]
        return {name: seen for name, seen in plain.items() if seen != "never" or name in _outermost(never)}


def explore(found: Found, place: World) -> None:
    operation = found.operation
    answers = [_ask(place, operation, {}, url) for url in place.targets(operation["method"], operation["path"])]
    found.there = any(answer.status_code in OK for answer in answers)
    _keep(found, answers)
    for name in operation["query"]:
        found.fates[name] = _query_fate(found, place, name) if found.there else "missing"
    for name in operation["request"]:
        found.fates[name] = _body_fate(found, place, name) if found.there else "missing"


def explore_inside(found: Found, place: World) -> None:
    """After all operations were asked, since it makes many objects."""
    named = found.operation["query"] + found.operation["request"]
    for path in found.notes:
        name = _outer(path)
        if name not in named:
            found.ours.append(path)
        elif path != name:
            found.inner[path] = _inner_fate(found, place, path)


def _body_fate(found: Found, place: World, name: str) -> Fate:
    operation, samples = found.operation, SAMPLES.get(found.operation["path"], {})
    beside = BESIDE.get(name, {})
    sample = {**beside, name: samples[name]} if name in samples else beside
    answer = _ask(place, operation, sample)
    if answer.status_code not in OK:
        return "refused"
    _keep(found, [answer])
    nonsense = _ask(place, operation, {**beside, name: NONSENSE})
    if nonsense.status_code == 400:
        return "accepted"
    kept = "" if found.chunks and not found.answers else _kept(place, operation, answer)
    return "accepted" if MARK in answer.text + kept and samples.get(name) == MARK else "ignored"


def _outer(path: str) -> str:
    """`tools[].function.name` -> `tools`."""
    return path.partition(".")[0].partition("[")[0]


def _inner_fate(found: Found, place: World, path: str) -> Fate:
    """Of a field inside another one: nonsense takes its place in the first value of the outer one that has it."""
    name = _outer(path)
    samples = [SAMPLES.get(found.operation["path"], {}).get(name), *ALTERNATIVES.get(name, [])]
    for sample in samples:
        spoilt = [json.loads(json.dumps(sample)) for _ in UNFIT]
        if not all(_spoil(one, _steps(path)[1:], unfit) for one, unfit in zip(spoilt, UNFIT, strict=True)):
            continue
        beside = BESIDE.get(name, {})
        if _ask(place, found.operation, {**beside, name: sample}).status_code not in OK:
            return "refused"
        asked = [_ask(place, found.operation, {**beside, name: one}).status_code for one in spoilt]
        return "accepted" if 400 in asked else "ignored"
    raise LookupError(f"No sample of {name!r} has {path!r}: add one to ALTERNATIVES.")


def _steps(path: str) -> list[str]:
    """`tools[].function` -> tools, [], function; `expires_after[anchor]` -> expires_after, anchor."""
    return path.replace("[]", ".@").replace("[", ".").replace("]", "").replace("@", "[]").split(".")


def _spoil(value: Any, steps: list[str], unfit: object) -> bool:
    """Puts `unfit` at the place that the steps lead to. False where the value has no such place."""
    *before, last = steps
    for step in before:
        if step == "[]":
            value = value[0] if isinstance(value, list) and value else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, dict) or last not in value:
        return False
    value[last] = unfit
    return True


def _kept(place: World, operation: Json, answer: Response) -> str:
    """What is stored of an answered chat completion."""
    if operation["path"] != "/v1/chat/completions" or "application/json" not in answer.headers["content-type"]:
        return ""
    return place.client.get(f"{operation['path']}/{answer.json()['id']}").text


def _query_fate(found: Found, place: World, name: str) -> Fate:
    sent, value = QUERY[name]
    if name == "order" and found.operation["path"] == PERMISSIONS:
        value = "ascending"  # elsewhere `asc`
    if name == "status" and found.operation["path"].endswith("/runs"):
        value = "failed"  # of output items `fail`
    url = place.targets("GET", found.operation["path"])[0]
    answer = place.client.get(url, params={sent: value})
    if answer.status_code not in OK:
        return "refused"
    _keep(found, [answer])
    nonsense = place.client.get(url, params={sent: "nonsense"})
    changed = nonsense.status_code == 400 or answer.json() != place.client.get(url).json()
    return "accepted" if changed else "ignored"


def _ask(place: World, operation: Json, fields: Json, url: str = "") -> Response:
    method, path = operation["method"], operation["path"]
    url = url or place.targets(method, path)[0]
    body = place.whole(path)
    if path.endswith("/complete"):
        body["part_ids"] = [place.part_of(url)]
    body |= fields
    if operation["form"]:
        return _ask_form(place, operation, body, url)
    return place.client.request(method, url, json=body if operation["request"] else None)


def _ask_form(place: World, operation: Json, body: Json, url: str) -> Response:
    part = "data" if url.endswith("/parts") else "file"
    flat: Json = {}
    for key, value in body.items():
        flat |= (
            {f"{key}[{inner}]": str(one) for inner, one in value.items()} if isinstance(value, dict) else {key: value}
        )
    return place.client.post(url, data=flat, files={} if part in body else {part: ("a.jsonl", ROWS)})


def _keep(found: Found, answers: Iterable[Response]) -> None:
    for answer in answers:
        if answer.status_code not in OK:
            continue
        if answer.headers["content-type"].startswith("text/event-stream"):
            lines = (line.removeprefix("data: ") for line in answer.text.split("\n\n"))
            found.chunks += [json.loads(line) for line in lines if line.startswith("{")]
        elif found.operation["answer"]:
            found.answers.append(answer.json())


def _presence(value: object, names: list[str]) -> list[bool]:
    """One entry for each object that could have the field."""
    name, rest = names[0].removesuffix("[]"), names[1:]
    if not isinstance(value, dict):
        return []
    if not rest or name not in value:
        return [name in value] if not rest else []
    inner = value[name] if isinstance(value[name], list) else [value[name]]
    return [present for one in inner for present in _presence(one, rest)]


HEAD = """\
# How much of OpenAI's API is here

<!-- Written by `make coverage-api` from scripts/openai_operations.json and the application; a test compares. -->

**{score}** of what OpenAI's description (2.3.0) names in these areas is here: an operation counts once, and so does
each field of its request and of its answer.

| | here | named | |
| --- | --- | --- | --- |
{rows}
This page was made by asking the application, with a small base and a store of its own. A field of a request is

* *accepted* when a sensible value is answered and has an effect: nonsense is refused, or the value is kept and shown;
* *ignored* when it is answered and nonsense makes no difference;
* *refused* when it is answered with an error that names it; a field that is in no table is refused as unknown;
* *ours* when OpenAI's description does not have it.

Ignored and refused fields count as not here; fields inside others, and ours, are not counted. The notes are those of
the types in `src/tunesmith/wire/`, as in `/openapi.json`; names such as `max_file_bytes` in them are
[settings](settings.md).

Of an answer, *always* means in every answer that had the object around it, null or not. A field inside one that never
came is neither counted nor listed.

[api.md](api.md) and [serving.md](serving.md) say how the operations work. Batches are not here at all.
"""


ADMIN = """\
## Projects, keys and usage

`/v1/organization` is not in this part of the description, so it was neither asked nor counted; these are the fields
that its operations take. [api.md](api.md#projects-and-keys) says who may call them.
"""
FILE = "Here; the answer is the file's bytes.\n"


def page(founds: list[Found]) -> str:
    fates = [fate for found in founds for fate in found.fates.values()]
    shown = [seen for found in founds for seen in found.shown().values()]
    counts = {
        "operations": (sum(found.there for found in founds), len(founds)),
        "fields of requests": (fates.count("accepted"), len(fates)),
        "fields of answers": (len(shown) - shown.count("never"), len(shown)),
    }
    rows = "".join(
        f"| {name} | {here} | {named} | {_percent(here, named)} |\n" for name, (here, named) in counts.items()
    )
    score = _percent(*(sum(pair[side] for pair in counts.values()) for side in (0, 1)))
    return HEAD.format(score=score, rows=rows) + "".join(_section(found) for found in founds)


def _percent(here: int, named: int) -> str:
    return f"{100 * here / named:.1f} %"


def _section(found: Found) -> str:
    title = f"\n## {found.title}\n\n"
    if not found.there:
        return f"{title}Missing, with {len(found.fates)} fields of requests.\n"
    return title + ("\n".join(part for part in (_table(found), _answer(found)) if part) or FILE)


def _table(found: Found) -> str:
    """The fields of the request, each followed by those inside it."""
    rows = [_row(name, fate, found) for name, fate in found.fates.items()]
    rows += [_row(path, fate, found) for path, fate in found.inner.items()]
    rows += [_row(path, "ours", found) for path in found.ours]
    rows = [row for row in rows if row[2] or not any(path.startswith(f"{row[0]}[") for path in found.notes)]
    order = [*found.fates, *(path for path in found.ours)]
    rows.sort(key=lambda row: order.index(_outer(row[0])) if _outer(row[0]) in order else len(order))
    lines = [f"| `{path}` | {fate} | {note} |\n" for path, fate, note in rows]
    return "".join(["| field | | |\n| --- | --- | --- |\n", *lines]) if lines else ""


def _admin(notes: Notes) -> str:
    """What projects, keys and usage take; the description that is counted does not have them."""
    sections = [f"\n{ADMIN}"]
    for label in notes.labels("/v1/organization"):
        if known := notes.of(*label.split(" ")):
            lines = [f"| `{path}` | {text} |\n" for path, text in known.items()]
            sections.append("".join([f"\n### {label}\n\n| field | |\n| --- | --- |\n", *lines]))
    return "".join(sections)


def _row(path: str, fate: str, found: Found) -> tuple[str, str, str]:
    return path, fate, found.notes.get(path, "").replace("|", "\\|")


def _answer(found: Found) -> str:
    shown = found.shown()
    lines = [
        f"* {seen}: {', '.join(f'`{name}`' for name in names)}\n"
        for seen in ("always", "sometimes", "never")
        if (names := [name for name, it in shown.items() if it == seen])
    ]
    counts = f"{sum(seen != 'never' for seen in shown.values())} of {len(shown)} fields"
    summary = f"<details><summary>The answer: {counts}</summary>\n\n"
    return "".join([summary, *lines, "\n</details>\n"]) if lines else ""


def _outermost(names: list[str]) -> list[str]:
    """Without those inside another one."""
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def coverage() -> str:
    """The page as it should be now."""
    configure_log(logging.WARNING)  # to stderr: runs of evals fail here on purpose, and the page goes to stdout
    operations = json.loads(Path(__file__).with_name("openai_operations.json").read_text(encoding="utf-8"))
    with world() as place:
        notes = Notes(place.client.get("/openapi.json").json())
        founds = [Found(one, notes.of(one["method"], one["path"])) for one in operations]
        for found in founds:
            explore(found, place)
        for found in founds:
            explore_inside(found, place)
        return page(founds) + _admin(notes)


if __name__ == "__main__":
    TARGET.write_text(coverage(), encoding="utf-8")
