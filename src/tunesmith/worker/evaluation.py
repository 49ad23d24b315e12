"""After training: base and tuned model answer the same rows.

They do so in a process of their own. What goes wrong here never fails the job; an event says why there is no verdict.
The time is a share of the job's.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

from tunesmith.errors import DataError, TunesmithError
from tunesmith.estimate.verdict_time import TIME_SHARE, VerdictPlan, read_pace, record_pace
from tunesmith.evals.verdict.as_eval import OfJob, as_eval
from tunesmith.evals.verdict.held_out import Split, held_out_count, split_file
from tunesmith.evals.verdict.spec import ENGINE_SETTINGS, SideSpec, VerdictSpec
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.output import LineReader, log_tail
from tunesmith.launch.protocol import Launcher, Start, Trainer
from tunesmith.models.adapters import NO_ADAPTER, read_manifest
from tunesmith.models.directory import materialise
from tunesmith.models.registry import resolve_base
from tunesmith.models.tuned import own_base
from tunesmith.settings import Settings
from tunesmith.store import Blob, JobFiles, JobRow, Lease, NewEvent, NewJob, Store
from tunesmith.store.evals.rows import FinishedEval
from tunesmith.system.atomic_write import sha256_of
from tunesmith.system.python import without_keys
from tunesmith.train.protocol.events import Failed, Log, events_of
from tunesmith.worker.duration import seconds_trained
from tunesmith.worker.handover import without_secrets

EVALUATOR_MODULE = "tunesmith.serve.verdict"
MOST_LINES = 1_000  # more than a verdict has questions
HANGS_SECONDS = 900.0  # beyond its share: then it is ended


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation that is done: its file, what the job shows, its events, its eval."""

    blob: Blob
    shown: JsonObject
    events: tuple[NewEvent, ...]
    eval: FinishedEval | None


def is_wanted(job: JobRow) -> bool:
    """Whether the job ends with a verdict: it has rows for one, and did not refuse it."""
    asked = job.options.get("evaluate")
    return asked is not False and (job.validation_file is not None or bool(asked))


def split_of(store: Store, settings: Settings, job: JobRow) -> Split | None:
    """The parts of the training file, where a share of it is held out."""
    share = job.options.get("evaluate")
    if not share or job.validation_file is not None:
        return None
    files = JobFiles(settings.paths.jobs, job.id)
    split = Split(files.trained, files.held_out)
    rows = store.files.copy_for_job(job.training_file, files.directory)
    return split_file(rows, split, cast(float, share), job.seed)


def demand_rows(job: JobRow | NewJob, rows: int, least: int) -> None:
    """Raises DataError where too few rows would be left to train on."""
    share = job.options.get("evaluate")
    if not share or job.validation_file is not None:
        return
    held = held_out_count(rows, cast(float, share))
    if held < 1 or rows - held < least:
        raise DataError(
            f"The job is to be evaluated on {held:,} of its {rows:,} rows, which leaves {rows - held:,} to train on; "
            f"at least {least} are needed, and 1 to evaluate on. Add rows, give a validation file, or do not evaluate.",
            param="tunesmith.evaluate",
            code="invalid_n_examples",
        )


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """One attempt's evaluation of its job."""

    store: Store
    settings: Settings
    job: JobRow
    lease: Lease
    launcher: Launcher

    @property
    def files(self) -> JobFiles:
        """Where the job's files are."""
        return JobFiles(self.settings.paths.jobs, self.job.id)

    def run(self, adapter: Path, pause: Callable[[], None]) -> Evaluated | None:
        """The evaluation of the tuned model in `adapter`.

        None, after an event, where it failed. `pause` waits a little, and raises when the job is to be left.
        """
        try:
            spec = self._spec(adapter)
            spec.write(self.files.evaluation_spec(self.job.attempt))
            child = self.launcher.start(self._start())
        except TunesmithError as error:
            self._not_done(error.message)
            return None
        except OSError as error:  # whose own words name a path of the server
            self._not_done(f"a file cannot be read or written ({error.strerror})")
            return None
        fault = self._watch(child, pause, spec)
        if fault is not None:
            self._not_done(fault)
            return None
        try:
            return self._read(spec)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._not_done(f"its result cannot be read ({type(error).__name__})")
            return None

    def _watch(self, child: Trainer, pause: Callable[[], None], spec: VerdictSpec) -> str | None:
        """Why the process failed; None where it did not, and then its pace is kept for estimates."""
        begun, known = time.monotonic(), _lines(self.files.answers)
        try:
            self._say_end(spec)
            fault = self._follow(child, pause, begun + spec.seconds + HANGS_SECONDS)
        finally:
            child.stop()
        if fault is None:
            asked = _lines(self.files.answers) - known - (known == 0)  # the first line names what is asked
            with suppress(OSError):
                record_pace(self.settings.paths.root, self.job.base_model, asked, time.monotonic() - begun)
        return fault

    def _spec(self, adapter: Path) -> VerdictSpec:
        base = materialise(resolve_base(self.job.base_model, self.settings), self.settings)
        split = split_of(self.store, self.settings, self.job)
        rows = split.held_out if split else self._copy(str(self.job.validation_file))
        trained = seconds_trained(self.files, self.job.attempt)
        return VerdictSpec(
            before=_side(self.job.model, base, self._parent()),
            after=_side(self.job.planned_model, base, adapter),
            rows_file=rows,
            rows_sha256=sha256_of(rows),
            training_file=split.training if split else self._copy(self.job.training_file),
            journal=self.files.answers,
            result=self.files.evaluation,
            settings=self.settings.model_dump(mode="json", include=ENGINE_SETTINGS),
            seconds=trained * TIME_SHARE / (1 - TIME_SHARE),
            held_out=split is not None,
        )

    def _say_end(self, spec: VerdictSpec) -> None:
        """Until when it will take: what was estimated for the training has passed."""
        plan = planned_verdict(self.store, self.settings, self.job)
        if plan is not None:
            ends = time.time() + plan.seconds(spec.seconds * (1 - TIME_SHARE) / TIME_SHARE)
            self.store.queue.append(self.lease, [], estimated_finish=int(ends))

    def _copy(self, file_id: str) -> Path:
        return self.store.files.copy_for_job(file_id, self.files.directory)

    def _parent(self) -> Path | None:
        """The tuned model that the job goes on from."""
        if self.job.model == self.job.base_model:
            return None
        parent = self.store.models.adapter_to_continue(self.job.model)
        if parent is None or not parent.is_dir():
            raise DataError(f"the model that it continues, {self.job.model}, is gone")
        return parent

    def _start(self) -> Start:
        attempt = self.job.attempt
        return Start(
            spec=self.files.evaluation_spec(attempt),
            events=self.files.evaluation_events(attempt),
            log=self.files.evaluation_log(attempt),
            lock=self.files.lock,
            nice=self.settings.train_nice,
            idle=self.settings.train_idle,
            environment=without_secrets(without_keys(os.environ), type(self.settings)),  # it calls nobody
        )

    def _follow(self, child: Trainer, pause: Callable[[], None], until: float) -> str | None:
        """Tells what the process says until it has ended; why it failed, None where it did not."""
        reader = LineReader(self.files.evaluation_events(self.job.attempt))
        failed: str | None = None
        while True:
            status = child.poll()  # before reading, so that the last read is complete
            for event in events_of(reader.read()):
                if isinstance(event, Log):
                    self._tell(NewEvent(event.message))
                elif isinstance(event, Failed):
                    failed = event.message
            if status == 0:
                return None
            if status is not None:
                tail = log_tail(self.files.evaluation_log(self.job.attempt)).rpartition("\n")[2]
                how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}. {tail}"
                return failed or f"its process {how}"
            if time.monotonic() > until:
                return "it took too long, and was ended"
            pause()

    def _tell(self, event: NewEvent) -> None:
        if event.message not in self.store.jobs.messages(self.job.id):  # an earlier attempt may have said it
            self.store.queue.append(self.lease, [event])

    def _not_done(self, reason: str) -> None:
        self._tell(NewEvent(f"The tuned model was not evaluated: {reason.rstrip('.')}", level="warn"))

    def _read(self, spec: VerdictSpec) -> Evaluated:
        text = spec.result.read_bytes()
        found: JsonObject = json.loads(text)
        same = as_eval(found, OfJob(self.job.id, self.job.project, self.job.key_id))
        blob = self.store.blobs.write([text])
        shown = _shown(found, blob.id)
        return Evaluated(blob, shown, tuple(_events(found, shown)), same)


def planned_verdict(store: Store, settings: Settings, job: JobRow) -> VerdictPlan | None:
    """The rows and the pace of the job's verdict; None for a job without one."""
    if not is_wanted(job):
        return None
    held_out = JobFiles(settings.paths.jobs, job.id).held_out
    rows = held_out if job.validation_file is None else store.files.local_copy(job.validation_file)
    return VerdictPlan(_lines(rows), pace=read_pace(settings.paths.root, job.base_model))


def _lines(file: Path) -> int:
    """The file's lines, as far as they are counted."""
    if not file.exists():
        return 0
    with file.open("rb") as lines:
        return sum(1 for _ in islice(lines, MOST_LINES))


def _side(name: str, base: Path, adapter: Path | None) -> SideSpec:
    own = None if adapter is None else own_base(adapter)
    digest = NO_ADAPTER if adapter is None else read_manifest(adapter).sha256
    return SideSpec(name, own or base, adapter, digest)


def _shown(found: JsonObject, file_id: str) -> JsonObject:
    """What of an evaluation stands in the job."""
    sentences = cast("list[str]", found["sentences"])
    forgetting = cast("JsonObject | None", found["forgetting"])
    return {
        "verdict": found["verdict"],
        "sentence": sentences[0],
        "before": found["before"],
        "rows": found["rows"],
        "forgetting": None if forgetting is None else forgetting["found"],
        "file": file_id,
    }


def _events(found: JsonObject, shown: JsonObject) -> list[NewEvent]:
    """The verdict, and the probe for forgetting."""
    sentences, notes = cast("list[str]", found["sentences"]), cast("list[str]", found["notes"])
    forgetting = cast("JsonObject | None", found["forgetting"])
    extra = "".join(f"; {note}" for note in [*notes, *_leaked(found)])
    worse = shown["verdict"] in ("worse", "further")
    told = [NewEvent(f"Verdict: {sentences[0]}{extra}", level="warn" if worse else "info", data=shown)]
    if forgetting is not None:
        told.append(NewEvent(sentences[-1], level="warn" if forgetting["found"] else "info"))
    return told


def _leaked(found: JsonObject) -> list[str]:
    leaks = cast("JsonObject | None", found["leaks"]) or {}
    count = sum(cast(int, leaks.get(kind, 0)) for kind in ("exact", "near"))
    are = "is" if count == 1 else "are"
    return [f"{count:,} of the rows {are} also in the training file, exactly or nearly"] if count else []
