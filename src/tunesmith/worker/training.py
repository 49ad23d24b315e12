"""The second phase of a job: spec, trainer, relay, and its final transaction."""

import signal
import threading
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import structlog

from tunesmith.errors import DataError, ServiceUnavailable, TrainerError, TunesmithError
from tunesmith.export.cards.training_record import OfJob
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.output import LineReader, log_tail
from tunesmith.launch.protocol import Launcher, Start, Trainer
from tunesmith.models.directory import materialise
from tunesmith.models.options_check import trains_on_gpu
from tunesmith.models.registry import resolve_base
from tunesmith.models.tuned import own_base
from tunesmith.settings import Settings
from tunesmith.store import CheckpointRow, JobFiles, JobOutcome, JobRow, JobStatus, Lease, NewEvent, Store
from tunesmith.system.atomic_write import make_directories
from tunesmith.system.disk import free_bytes, tells_full
from tunesmith.system.memory import out_of_memory_kills
from tunesmith.system.processes import tells_shortage
from tunesmith.train.measure import Seen, record_job
from tunesmith.train.protocol.environment import trainer_environment
from tunesmith.train.protocol.events import SETUP, Done, Interrupted, events_of
from tunesmith.train.protocol.exit_status import NO_ROOM, STOPPED
from tunesmith.train.protocol.spec import Method, TrainSpec
from tunesmith.worker.cards import keep_models
from tunesmith.worker.duration import TrainingTime
from tunesmith.worker.evaluation import Evaluated, EvaluationRun, is_wanted, planned_verdict
from tunesmith.worker.handover import without_secrets
from tunesmith.worker.heartbeat import Heartbeat
from tunesmith.worker.integrations import Senders, start_senders
from tunesmith.worker.openai_events import STARTED, final_events, step_metrics_csv
from tunesmith.worker.relay import Relay
from tunesmith.worker.validation import job_options, require_files, resources_of, row_limit, trained_files

log = structlog.get_logger(__name__)

RELAY_SECONDS = 0.1  # between two reads of the trainer's output
UNEXPECTED = "trainer_error"  # the code of an exception that the trainer did not expect
MOST_CHECKPOINTS = 100  # more than a job keeps
LEAST_ROOM = 2 * 1024**2  # bytes; with less, neither spec nor events nor log of a trainer may be whole


Death = Literal["outside", "memory", "crash"]  # killed by somebody, by the kernel for want of memory, by its own fault
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


class Stopping(TunesmithError):
    """The worker was asked to end; its job goes back into the queue."""


class TrainerInterrupted(TrainerError):
    """The trainer has died without a word; the next attempt goes on."""

    cause: Death = "outside"


class Shortage(TrainerError):
    """The machine lacked processes, files or memory for a trainer.

    Another time it may have them.
    """


class NoRoom(Shortage):
    """The disk is too full for a job to start."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One attempt at one job."""

    store: Store
    settings: Settings
    job: JobRow
    lease: Lease
    launcher: Launcher
    stop: threading.Event
    evaluator: Launcher  # starts the process that compares the tuned model with its base

    @property
    def files(self) -> JobFiles:
        """Where the job's files are."""
        return JobFiles(self.settings.paths.jobs, self.job.id)

    def train(self) -> None:
        """Trains the job, which has then `succeeded`.

        Raises LeaseLost, Stopping or TrainerInterrupted when the job goes on elsewhere or not at all, and any other
        TunesmithError when it has failed.
        """
        self._demand_room()
        with Heartbeat(self.store.queue, self.lease, self.settings.lease_seconds) as heartbeat:
            spec = self._write_spec()
            told = set(self.store.jobs.messages(self.job.id))
            self._announce(told)
            verdict = planned_verdict(self.store, self.settings, self.job)
            relay = Relay(self.store, self.lease, self.job.last_step, told, spec.keep_checkpoints, verdict)
            started, kills = time.monotonic(), out_of_memory_kills()
            trainer = self.launcher.start(self._start())
            senders = start_senders(self.job, self.files, self.settings)
            try:
                status = self._follow(trainer, relay, senders, heartbeat)
            finally:
                trainer.stop()
                self.store.models.publish_progress(self.job.id, last=True)  # what it saved when it was stopped
                senders.close()
            relay.take(senders.events())
            relay.send()
            done = self._done(relay, status, kills)
            self._finish(done, self._evaluated(done, heartbeat), heartbeat, spec)
        self._remember_speed(spec, relay, started)

    def _demand_room(self) -> None:
        free = self._free_bytes()
        if free < LEAST_ROOM:
            text = (
                f"The server's disk is full: {free:,} bytes are free, and a job needs at least {LEAST_ROOM:,} to start."
            )
            raise NoRoom(text)

    def _free_bytes(self) -> int:
        return free_bytes(self.settings.paths.jobs)

    def _write_spec(self) -> TrainSpec:
        spec = train_spec(self.store, self.settings, self.job)
        make_directories(self.files.output)
        if self.settings.launcher == "child" or self.settings.ray_node_dir is None:  # else the node fetches it
            self.store.models.fetch_progress(self.job.id)
        spec.write(self.files.spec(self.job.attempt))
        return spec

    def _announce(self, told: AbstractSet[str]) -> None:
        if self.job.status is JobStatus.RUNNING:
            text = f"Training goes on after an interruption (attempt {self.job.attempt})"
            self.store.queue.append(self.lease, [NewEvent(text, level="warn")])
        else:  # paused and resumed: it was started before
            said = STARTED.message in told
            self.store.queue.set_status(self.lease, JobStatus.RUNNING, [] if said else [STARTED])

    def _start(self) -> Start:
        attempt, settings = self.job.attempt, self.settings
        resources = resources_of(self.job, settings)
        on_cluster = settings.launcher != "child"
        # The thread that feeds a GPU must not wait for other processes.
        gpu = resources.gpus > 0 if on_cluster else trains_on_gpu(settings.train_device)
        return Start(
            spec=self.files.spec(attempt),
            events=self.files.events(attempt),
            log=self.files.log(attempt),
            lock=self.files.lock,
            nice=0 if gpu else settings.train_nice,
            idle=settings.train_idle and not gpu,
            environment=without_secrets(trainer_environment(), type(settings)),
            resources=resources,
        )

    def _follow(self, trainer: Trainer, relay: Relay, senders: Senders, heartbeat: Heartbeat) -> int:
        """Relays until the trainer has ended and all is stored; its exit status."""
        reader = LineReader(self.files.events(self.job.attempt))
        time_spent = self._time_spent()
        while True:
            status = trainer.poll()  # before reading, so that the last read is complete
            relay.take(events_of(reader.read()))
            relay.take(senders.events())
            stored = relay.send()
            self.store.models.publish_progress(self.job.id)
            heartbeat.demand()
            if status is not None and stored:
                return status
            if relay.begun:
                time_spent.demand()
            else:  # a cluster, or a node of it, may be waited for
                time_spent = self._time_spent()
            if self.stop.wait(RELAY_SECONDS):
                raise Stopping("The worker was asked to end.")

    def _time_spent(self) -> TrainingTime:
        return TrainingTime.of(self.files, self.job.attempt, self.settings.limit_job_seconds)

    def _done(self, relay: Relay, status: int, kills_before: int) -> Done:
        if relay.done is not None:
            return relay.done
        if relay.failed is not None:
            if relay.failed.code == UNEXPECTED:  # its file may have been deleted meanwhile
                require_files(self.store, self.job)
                self._check_shortage(relay.failed.message)
            raise TrainerError(relay.failed.message, code=relay.failed.code, param=relay.failed.param)
        if relay.interrupted is not None:
            raise told_interruption(relay.interrupted, relay.last_step)
        if status < 0 or status == STOPPED:
            raise interruption(status, relay.last_step, ran_out=out_of_memory_kills() > kills_before)
        if status == NO_ROOM:
            text = "The server's disk was full for 10 minutes, even for a line of the trainer's report."
            raise TrainerError(f"{text} Free some space there, then create the job again.", code="disk_full")
        tail = log_tail(self.files.log(self.job.attempt))
        self._check_shortage(tail)
        if not tail:
            self._demand_room()
        words = f"Its last words: {tail}" if tail else "It left no words, as where the disk is full."
        raise TrainerError(f"The trainer ended with status {status}. {words}", code=UNEXPECTED)

    def _check_shortage(self, words: str) -> None:
        """Raises Shortage where the trainer's last words tell of one."""
        if tells_full(words):
            raise Shortage(f"The server's disk is full for the trainer: {self._free_bytes():,} bytes are free.")
        if tells_shortage(words):
            raise Shortage(f"The trainer could not work: {words.splitlines()[-1][:200]}.")

    def _evaluated(self, done: Done, heartbeat: Heartbeat) -> Evaluated | None:
        """The verdict, where the job has rows for one."""
        if not is_wanted(self.job):
            return None

        def pause() -> None:
            heartbeat.demand()
            if self.stop.wait(RELAY_SECONDS):
                raise Stopping("The worker was asked to end.")

        return EvaluationRun(self.store, self.settings, self.job, self.lease, self.evaluator).run(
            Path(done.path), pause
        )

    def _finish(self, done: Done, evaluated: Evaluated | None, heartbeat: Heartbeat, spec: TrainSpec) -> None:
        made: _Made | None = None
        published = False
        while True:
            try:
                if made is None:  # once: it writes files
                    made = self._made(done, evaluated, spec)
                if not published:
                    keep_models(self.store, self.settings, made.of_job, made.kept, made.outcome)
                    published = True
                self.store.queue.finish(self.lease, made.outcome)
                break
            except ServiceUnavailable:  # everything is on disk: wait as long as the job is ours
                heartbeat.demand()
                time.sleep(RELAY_SECONDS)
        self.store.models.clean(self.job.id)

    def _remember_speed(self, spec: TrainSpec, relay: Relay, started: float) -> None:
        """Keeps how fast this machine trained, for `tunesmith estimate`. The job has succeeded whatever comes of it."""
        if self.settings.launcher != "child":  # the estimate is of this machine
            return
        seen = Seen(relay.first_steps, relay.first_at - started, relay.element_bytes, self.settings.train_ranks)
        try:
            record_job(self.settings.paths.root, spec, seen)
        except (OSError, ValueError, TunesmithError) as error:
            log.warning("the speed of the training was not kept", job=self.job.id, error=str(error))

    def _made(self, done: Done, evaluated: Evaluated | None, spec: TrainSpec) -> "_Made":
        of_job = OfJob.read(self.store, self.job, spec)
        kept = self.store.jobs.checkpoints(self.job.id, limit=MOST_CHECKPOINTS).data
        return _Made(of_job, kept, self._outcome(done, evaluated, of_job.metrics, kept))

    def _outcome(
        self, done: Done, evaluated: Evaluated | None, metrics: list[JsonObject], kept: Sequence[CheckpointRow]
    ) -> JobOutcome:
        return JobOutcome(
            adapter_dir=Path(done.path),
            trained_tokens=done.trained_tokens,
            result=self.store.blobs.write([step_metrics_csv(metrics)]),
            events=[*(evaluated.events if evaluated else ()), *final_events(self.job.planned_model, kept)],
            evaluation=evaluated.blob if evaluated else None,
            verdict=evaluated.shown if evaluated else None,
            eval=evaluated.eval if evaluated else None,
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """What a job has made, before its models are where every machine finds them."""

    of_job: OfJob
    kept: Sequence[CheckpointRow]
    outcome: JobOutcome


def train_spec(store: Store, settings: Settings, job: JobRow) -> TrainSpec:
    """All that decides a job's result; DataError when a file or model is gone."""
    rows, (base_dir, init_adapter_dir) = require_files(store, job), _start_of(store, settings, job)
    numbers, files = job.hyperparameters, trained_files(store, settings, job, rows)
    return TrainSpec(
        job_id=job.id,
        attempt=job.attempt,
        base_name=job.base_model,
        base_dir=base_dir,
        init_adapter_dir=init_adapter_dir,
        training_file=files.training,
        training_sha256=files.training_sha256,
        validation_file=files.validation,
        validation_sha256=files.validation_sha256,
        output_dir=JobFiles(settings.paths.jobs, job.id).output,
        method=cast(Method, job.method["type"]),
        n_epochs=cast(int, numbers["n_epochs"]),
        batch_size=cast(int, numbers["batch_size"]),
        learning_rate_multiplier=cast(float, numbers["learning_rate_multiplier"]),
        beta=cast("float | None", numbers.get("beta")),
        seed=job.seed,
        max_tokens=row_limit(base_dir, settings),
        options=job_options(job, settings),
        device=settings.train_device,
        weights=settings.train_weights,
        threads=settings.train_threads,
        packing=settings.train_packing,
        sharding=settings.train_sharding,
        checkpoint_seconds=settings.checkpoint_seconds,
    )


def _start_of(store: Store, settings: Settings, job: JobRow) -> tuple[Path, Path | None]:
    """The base's directory, and that of the adapter to start from."""
    parent = _continued(store, job)
    base_dir = (parent and own_base(parent)) or materialise(resolve_base(job.base_model, settings), settings)
    return base_dir, None if parent == base_dir else parent  # tuned weights are a base


def _continued(store: Store, job: JobRow) -> Path | None:
    """Where the tuned model lies that the job continues; None when it starts from a base."""
    if job.model == job.base_model:
        return None
    adapter = store.models.adapter_to_continue(job.model)
    if adapter is None or not adapter.is_dir():
        raise DataError(
            f"The job failed because the model that it continues, {job.model}, is gone: a running job keeps only its"
            " newest checkpoints. Continue from a finished job's model.",
            param="model",
            code="deleted_model",
        )
    return adapter


def interruption(status: int, last_step: int, *, ran_out: bool) -> TrainerInterrupted:
    """What a trainer died of that ended with this status, negative for a signal.

    `ran_out`: meanwhile the kernel has killed a process here for want of memory.
    """
    after = f"after step {last_step}."
    cause: Death = "outside"
    if status == -signal.SIGKILL and ran_out:
        text, cause = f"The machine ran out of memory, and the trainer was killed {after}", "memory"
    elif -status in CRASHES:
        text, cause = f"The trainer crashed (signal {-status}) {after}", "crash"
    else:
        how = "asked to end" if status == STOPPED else f"killed by signal {-status}"
        text = f"The trainer was {how} from outside {after}"
    error = TrainerInterrupted(text)
    error.cause = cause
    return error


def told_interruption(told: Interrupted, last_step: int) -> TrainerError:
    """What to raise for an interruption that the launcher told of."""
    if told.cause == SETUP:
        return Shortage(told.reason if told.reason.endswith(".") else f"{told.reason}.")
    error = TrainerInterrupted(f"{told.reason} after step {last_step}.")
    error.cause = cast(Death, told.cause) if told.cause in get_args(Death) else "outside"
    return error


def interruption_event(error: TrainerInterrupted, left: int) -> NewEvent:
    """Says that training stopped, and whether any of `left` attempts remain."""
    rest = "it goes on from its last progress" if left else "it will not be started again"
    return NewEvent(f"{error.message} Training stopped there; {rest}", level="warn")
