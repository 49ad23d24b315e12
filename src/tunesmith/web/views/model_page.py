"""What the page of one model shows: its origin, its verdict, its card."""

from dataclasses import dataclass

from tunesmith.errors import TunesmithError
from tunesmith.export.cards.display_name import display_name
from tunesmith.export.cards.model_card import model_card, read_verdict
from tunesmith.export.cards.training_record import TrainingRecord, read_record
from tunesmith.models.adapters import AdapterManifest, read_manifest
from tunesmith.store import JobRow, ModelRow, ScopedStore
from tunesmith.web.views.job_line import state_of
from tunesmith.web.views.model_lists import Verdict, verdict_of

CHECKPOINTS = 20  # of a job that are named; a job keeps few


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows that the model was tuned on; None where nobody has kept it."""

    id: str
    filename: str
    sha256: str | None
    rows: int | None
    bytes: int | None
    exists: bool  # so that its page can be linked


@dataclass(frozen=True, slots=True)
class Lineage:
    """From the file to the weights.

    Digests are SHA-256, None where they are not known.
    """

    training: DataFile
    validation: DataFile | None
    base: str
    base_sha256: str | None
    licence: str | None
    started_from: str | None  # the tuned model that the job went on from
    job: JobRow
    step: int | None
    weights_sha256: str | None
    others: tuple[tuple[str, int], ...]  # the job's other models, with their steps

    @property
    def state(self) -> str:
        """The job's state, as its own page says it."""
        return state_of(self.job)


@dataclass(frozen=True, slots=True)
class ModelPage:
    """All of one tuned model that is read from the store and its folder."""

    row: ModelRow
    own: bool  # False: another project shares it
    display: str | None  # what people call it
    is_adapter: bool
    weights_sha256: str | None
    lineage: Lineage | None  # None: another project's
    verdict: Verdict | None
    sentences: tuple[str, ...]
    card: str | None  # Markdown
    fault: str | None  # why the model's files cannot be read


def model_page(store: ScopedStore, row: ModelRow) -> ModelPage:
    """Reads the model's row, job, manifest, record and evaluation."""
    own, job = row.project == store.project, store.jobs.get(row.job_id)
    manifest, record, fault = _files(store, row)
    verdict = verdict_of(job) if row.step is None else None
    found = read_verdict(row.adapter_dir) if own else None
    listed = found.get("sentences") if found else None
    sentences = tuple(str(one) for one in listed) if isinstance(listed, list) else ()
    return ModelPage(
        row=row,
        own=own,
        display=display_name(row),
        is_adapter=manifest is None or manifest.adapter == "lora",
        weights_sha256=manifest.sha256 if manifest else None,
        lineage=_lineage(store, row, job, record, manifest) if job is not None else None,
        verdict=verdict,
        sentences=sentences or ((verdict.sentence,) if verdict else ()),
        card=model_card(record, found) if own and record is not None else None,
        fault=fault,
    )


def _files(store: ScopedStore, row: ModelRow) -> tuple[AdapterManifest | None, TrainingRecord | None, str | None]:
    """Manifest, record, and what is wrong with them."""
    try:
        store.models.fetch(row)  # says what is to be done about a model without weights
        manifest = read_manifest(row.adapter_dir)
    except TunesmithError as error:
        return None, None, error.message
    try:
        return manifest, read_record(row.adapter_dir), None
    except TunesmithError as error:
        return manifest, None, error.message


def _lineage(
    store: ScopedStore, row: ModelRow, job: JobRow, record: TrainingRecord | None, manifest: AdapterManifest | None
) -> Lineage:
    kept = store.jobs.checkpoints(job.id, limit=CHECKPOINTS).data
    usable = {one.name for one in store.models.among({one.fine_tuned_model_checkpoint for one in kept})}
    validation = job.validation_file
    return Lineage(
        training=_data(store, job.training_file, record, validation=False),
        validation=None if validation is None else _data(store, validation, record, validation=True),
        base=row.base_model,
        base_sha256=record.base.sha256 if record else None,
        licence=record.base.licence if record else None,
        started_from=None if job.model == job.base_model else job.model,
        job=job,
        step=manifest.step if manifest else row.step,
        weights_sha256=manifest.sha256 if manifest else None,
        others=tuple(
            (one.fine_tuned_model_checkpoint, one.step_number)
            for one in reversed(kept)
            if one.fine_tuned_model_checkpoint in usable - {row.name}
        ),
    )


def _data(store: ScopedStore, file_id: str, record: TrainingRecord | None, *, validation: bool) -> DataFile:
    """What was trained on as the record has it; the file may be gone."""
    row = store.files.get(file_id)
    kept = None if record is None else record.validation if validation else record.training
    if kept is not None:
        return DataFile(file_id, kept.filename, kept.sha256 or None, kept.rows, kept.bytes, row is not None)
    if row is None:
        return DataFile(file_id, file_id, None, None, None, exists=False)
    return DataFile(file_id, row.filename, row.sha256, None, row.bytes, exists=True)
