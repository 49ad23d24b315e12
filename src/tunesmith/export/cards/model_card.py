"""A tuned model's card: what it was made of and how it went, in Markdown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from tunesmith.evals.comparison import DECIDED
from tunesmith.evals.wording import counted
from tunesmith.export.cards.training_record import CURVES, DataRecord, TrainingRecord
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.system.atomic_write import write_atomically

FILE = "card.md"
VERDICT_FILE = "evaluation.json"
BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 48
NAMES = {
    "train_loss": "loss",
    "valid_loss": "loss on a sample of the validation file",
    "full_valid_loss": "loss on the validation file",
    "train_mean_token_accuracy": "share of tokens predicted",
}
UNKNOWN = "not known: made before cards were kept"


def write_card(directory: Path, record: TrainingRecord) -> str:
    """Writes the card into a tuned model's folder; returns its text."""
    text = model_card(record, read_verdict(directory))
    write_atomically(directory / FILE, text.encode(), private=True)
    return text


def read_verdict(directory: Path) -> JsonObject | None:
    """The evaluation beside the model; None without one to be read."""
    try:
        found = json.loads((directory / VERDICT_FILE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def model_card(record: TrainingRecord, verdict: JsonObject | None = None) -> str:
    """The card's text."""
    return "\n".join([*_head(record), *_verdict(verdict), *_data(record), *_training(record), *_origin(record), ""])


def sparkline(values: Sequence[float]) -> str:
    """The values as a row of bars; where there are many, several are averaged."""
    if not values:
        return ""
    count = min(len(values), MOST_BARS)
    edges = [len(values) * place // count for place in range(count + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]
    low, high = min(means), max(means)
    span = high - low
    return "".join(BARS[0 if span == 0 else round((mean - low) / span * (len(BARS) - 1))] for mean in means)


def _head(record: TrainingRecord) -> Iterator[str]:
    made = datetime.fromtimestamp(record.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield f"# {_inline(record.model)}"
    yield ""
    yield from _table(
        {
            "made": f"{made}, by job {record.job}, at step {record.step}",
            "base": record.base.name,
            "licence of the base": record.base.licence or "not stated in the base's files",
            "started from": record.started_from or "the base",
            "SHA-256 of the tuned weights": f"`{record.sha256}`",
        }
    )


def _verdict(verdict: JsonObject | None) -> Iterator[str]:
    if verdict is None:
        return
    yield "## Did the tuning help?"
    yield ""
    notes, sentences = _texts(verdict.get("notes")), _texts(verdict.get("sentences"))
    said = f"{_inline(_decided(verdict.get('verdict')))}, on {_rows(verdict.get('rows'))}"
    yield f"{'; '.join((said, *notes))}."
    yield ""
    yield from (f"- {sentence}" for sentence in sentences)
    yield ""
    yield from _right_and_wrong(verdict.get("criteria"))


def _decided(decision: JsonValue) -> str:
    return next((text for known, text in DECIDED.items() if known == decision), str(decision))


def _rows(value: JsonValue) -> str:
    return counted(value, "row") if isinstance(value, int) else "? rows"


def _texts(value: JsonValue) -> list[str]:
    return [_inline(str(one)) for one in value] if isinstance(value, list) else []


def _right_and_wrong(criteria: JsonValue) -> Iterator[str]:
    """Of each criterion of right and wrong, how many rows either side has right."""
    known = [one for one in criteria if isinstance(one, dict)] if isinstance(criteria, list) else []
    tables = [(one, table) for one in known if isinstance(table := one.get("table"), dict)]
    if not tables:
        return
    yield "| criterion | both right | gained | lost | both wrong | p |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for one, table in tables:
        counts = [str(table.get(name, "?")) for name in ("both", "gained", "lost", "neither")]
        p = one.get("p")
        shown = "?" if not isinstance(p, float | int) else f"{p:.3f}" if p >= 0.001 else "&lt;0.001"
        yield f"| {' | '.join(_inline(text) for text in (str(one.get('name', '?')), *counts))} | {shown} |"
    yield ""


def _data(record: TrainingRecord) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield from _table({f"training: {name}": text for name, text in _file(record.training).items()})
    if record.validation is not None:
        yield from _table({f"validation: {name}": text for name, text in _file(record.validation).items()})


def _file(data: DataRecord) -> dict[str, str]:
    found = {"file": f"{data.filename}, {data.bytes:,} bytes", "SHA-256": f"`{data.sha256}`"}
    return found | {name.replace("_", " "): _shown(value) for name, value in data.statistics.items()}


def _training(record: TrainingRecord) -> Iterator[str]:
    yield "## Training"
    yield ""
    options = record.spec.get("options")
    plain = {name: value for name, value in record.spec.items() if name != "options" and value is not None}
    flat = {**plain, **(options if isinstance(options, dict) else {}), "trained_tokens": record.trained_tokens}
    yield from _table({f"`{name}`": _shown(value) for name, value in flat.items()})
    for name in CURVES:
        points = record.curves.get(name)
        if points:
            values = [value for _, value in points]
            yield f"{NAMES[name]}, step {points[0][0]} to {points[-1][0]}: {values[0]:.4g} to {values[-1]:.4g}"
            yield ""
            yield f"    {sparkline(values)}"
            yield ""


def _origin(record: TrainingRecord) -> Iterator[str]:
    yield "## To train it again"
    yield ""
    machine = record.machine
    where = UNKNOWN
    if machine is not None:
        gpus = f"; {', '.join(machine.gpus)}" if machine.gpus else ""
        where = f"{machine.system}, {machine.processor} ({' '.join(machine.features)}), {machine.threads} threads{gpus}"
    versions = record.versions
    yield from _table(
        {
            "machine": where,
            "versions": UNKNOWN if versions is None else ", ".join(f"{name} {one}" for name, one in versions.items()),
            "SHA-256 of the base's files": f"`{record.base.sha256}`" if record.base.sha256 else "not known",
        }
    )
    yield f"`tunesmith reproduce {_inline(record.model)}` trains it again from these and compares the bits."


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    yield "| | |"
    yield "| --- | --- |"
    yield from (f"| {_inline(name)} | {_inline(text)} |" for name, text in rows.items())
    yield ""


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _inline(text: str) -> str:
    """One line, without what Markdown would read as a cell's end or as markup of a page."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
