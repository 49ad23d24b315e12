"""What a training was made of: `card.json` in a tuned model's folder.

It is written when the job ends, with the versions and the machine that trained. For a model of an earlier version it
is made when it is asked for, without what nobody has kept. Imports no torch.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError

from tunesmith.errors import InvalidRequest
from tunesmith.export.cards.base_facts import base_digest, base_licence
from tunesmith.export.cards.machine import Machine, versions
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.adapters import read_manifest
from tunesmith.store import JobRow, ModelRow, Store
from tunesmith.system.atomic_write import write_atomically
from tunesmith.train.protocol.spec import PATHS, TrainSpec

FILE = "card.json"
FORMAT_VERSION = 1
ELSEWHERE = ("job_id", "attempt", "nice", "base_name", "training_sha256", "validation_sha256", *PATHS)
MOST_POINTS = 400  # of a curve that is kept
CURVES = ("train_loss", "valid_loss", "full_valid_loss", "train_mean_token_accuracy")


Plain: TypeAlias = dict[str, object]  # a JSON object: pydantic does not resolve our recursive type


@dataclass(frozen=True, slots=True)
class DataRecord:
    """A file of rows; the numbers are the check's, None where it had not counted them."""

    filename: str
    sha256: str
    bytes: int
    rows: int | None = None
    statistics: Plain = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """What was tuned."""

    name: str
    fingerprint: str
    sha256: str | None  # of its weight files; None: not known any more
    licence: str | None  # as its own files say


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """All that decided a tuned model, and how the training went."""

    model: str
    job: str
    created_at: int
    step: int
    sha256: str  # of the adapter's tensors, or of all weights
    base: BaseRecord
    started_from: str | None  # the tuned model that the job continued
    training: DataRecord
    validation: DataRecord | None
    spec: Plain  # every choice of the trainer's spec; paths are left out
    trained_tokens: int | None
    curves: dict[str, list[tuple[int, float]]]  # step and value
    versions: dict[str, str] | None = None  # None: of a model from before cards
    machine: Machine | None = None
    format_version: int = FORMAT_VERSION


_RECORD = TypeAdapter(TrainingRecord)


def write_record(directory: Path, record: TrainingRecord) -> None:
    """Writes the record into a tuned model's folder, durably."""
    write_atomically(directory / FILE, json.dumps(asdict(record), ensure_ascii=False, indent=1).encode(), private=True)


def read_record(directory: Path) -> TrainingRecord | None:
    """The record in a tuned model's folder; None if there is none.

    Raises InvalidRequest for one that is damaged.
    """
    try:
        return _RECORD.validate_json((directory / FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InvalidRequest(
            f"{FILE} of this model is damaged ({error.errors()[0]['msg']}; in {directory}). Remove it: `tunesmith"
            " models card` makes another, without versions and machine."
        ) from error


@dataclass(frozen=True, slots=True)
class OfJob:
    """What the records of a job's models have in common, read once for all of them."""

    job: JobRow
    spec: TrainSpec
    training: DataRecord
    validation: DataRecord | None
    metrics: list[JsonObject]

    @classmethod
    def read(cls, store: Store, job: JobRow, spec: TrainSpec) -> "OfJob":
        """The job's files and metrics as the store has them, with what it was trained by."""
        validation = job.validation_file
        return cls(
            job,
            spec,
            _data(store, job.training_file, spec.training_sha256),
            None if validation is None else _data(store, validation, spec.validation_sha256),
            store.jobs.metrics(job.id),
        )


def make_record(of_job: OfJob, model: ModelRow, *, trained_now: bool, digests: Path | None = None) -> TrainingRecord:
    """The record of a model that the job has made.

    `trained_now`: this machine and these versions trained it. `digests`: where those of bases are kept.
    """
    job, spec = of_job.job, of_job.spec
    manifest = read_manifest(model.adapter_dir)
    same_base = trained_now or manifest.base_fingerprint == _fingerprint(spec.base_dir)
    digest = base_digest(spec.base_dir, digests) if same_base else None
    return TrainingRecord(
        model=model.name,
        job=job.id,
        created_at=model.created_at,
        step=manifest.step,
        sha256=manifest.sha256,
        base=BaseRecord(model.base_model, manifest.base_fingerprint, digest, base_licence(spec.base_dir)),
        started_from=None if job.model == job.base_model else job.model,
        training=of_job.training,
        validation=of_job.validation,
        spec={**choices(spec)},
        trained_tokens=job.trained_tokens,
        curves=_curves(of_job.metrics, manifest.step),
        versions=versions() if trained_now else None,
        machine=Machine.this(spec.threads) if trained_now else None,
    )


def choices(spec: TrainSpec) -> JsonObject:
    """The spec without names and paths."""
    return {name: value for name, value in spec.to_json().items() if name not in ELSEWHERE}


def _fingerprint(base_dir: Path) -> str:
    from tunesmith.models.directory import fingerprint

    return fingerprint(base_dir)


def _data(store: Store, file_id: str, sha256: str | None) -> DataRecord:
    row = store.files.for_job(file_id)
    statistics = _statistics(store.files.report(file_id) or {})
    rows = statistics.get("rows")
    return DataRecord(
        filename=file_id if row is None else row.filename,
        sha256=sha256 or ("" if row is None else row.sha256),
        bytes=0 if row is None else row.bytes,
        rows=rows if isinstance(rows, int) else None,
        statistics={**statistics},
    )


def _statistics(report: JsonObject) -> JsonObject:
    """What a check counted in a file; {} where it was not checked or is gone."""
    openai, lengths = _object(report.get("openai")), _object(_object(report.get("distributions")).get("tokens_per_row"))
    found: JsonObject = {
        "rows": report.get("examples"),
        "tokens": openai.get("tokens"),
        "learned_tokens": openai.get("learned_tokens"),
        "tokens_per_row": {name: lengths[name] for name in ("min", "median", "max") if name in lengths} or None,
        "roles": report.get("roles"),
        "findings": report.get("counts"),
    }
    return {name: value for name, value in found.items() if value}


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _curves(metrics: list[JsonObject], last: int) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in metrics:
        step = entry.get("step")
        if isinstance(step, int) and step <= last:
            for name in CURVES:
                value: JsonValue = entry.get(name)
                if isinstance(value, int | float):
                    curves.setdefault(name, []).append((step, float(value)))
    return {name: thinned(points) for name, points in curves.items()}


def thinned(points: list[tuple[int, float]], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """At most `most` of the points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[place * (len(points) - 1) // (most - 1)] for place in range(most)]
