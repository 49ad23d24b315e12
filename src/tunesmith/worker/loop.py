"""A worker's two loops: one trains, the other checks files.

So a faulty file is reported at once, even while a long job is training.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from tunesmith.errors import ServiceUnavailable, TunesmithError
from tunesmith.launch.child import ChildLauncher
from tunesmith.launch.choose import launcher_of
from tunesmith.launch.protocol import Launcher
from tunesmith.models.directory import CACHE_NOT_WRITABLE
from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, Lease, LeaseLost, NewEvent, Store
from tunesmith.store.ids import base62
from tunesmith.system.activity import doing
from tunesmith.system.disk import free_bytes, is_full
from tunesmith.system.processes import is_shortage
from tunesmith.worker.evaluation import EVALUATOR_MODULE
from tunesmith.worker.handover import without_secrets
from tunesmith.worker.heartbeat import Heartbeat
from tunesmith.worker.training import (
    Death,
    NoRoom,
    Shortage,
    Stopping,
    TrainerInterrupted,
    TrainingRun,
    interruption_event,
)
from tunesmith.worker.validation import validate_job

log = structlog.get_logger(__name__)

TO_CHECK = (JobStatus.VALIDATING,)
TO_TRAIN = (JobStatus.QUEUED, JobStatus.RUNNING)
SHORTAGE_SECONDS = 600.0  # how long a job waits for processes, files or memory that the machine lacks
SHORTAGE_PAUSE, LONGEST_SHORTAGE_PAUSE = 1.0, 20.0  # between two tries; less than a lease
RESTARTS_WITHOUT_PROGRESS = 3  # a trainer that keeps running out of memory or crashing at one step will do so again
KILLS_WITHOUT_PROGRESS = (
    20  # by others: machines are taken back, nodes are lost, and nothing of that is the job's fault
)

ADVICE: Mapping[Death, str] = {
    "memory": "Shorten the rows, take a smaller base, or a machine with more memory.",
    "crash": "The end of the trainer's log, in the job's folder, may say more.",
    "outside": "Something on the machine ends it: a limit of memory or time, or whoever runs it.",
}


def run_worker(
    store: Store,
    settings: Settings,
    stop: threading.Event,
    *,
    launcher: Launcher | None = None,
    evaluator: Launcher | None = None,
) -> None:
    """Work until `stop` is set.

    Then the trainer saves its progress and the job goes back to the queue.
    """
    launcher = launcher or launcher_of(settings, without_secrets(os.environ, type(settings)))
    worker = Worker(store, settings, stop, launcher, evaluator or ChildLauncher(EVALUATOR_MODULE))
    store.models.clean_all()
    checking = threading.Thread(target=worker.check_files, name="worker-check", daemon=True)
    checking.start()
    worker.train()
    checking.join()


@dataclass(slots=True)
class _Deaths:
    """How often a job's trainer has died at its last step: by itself, and by others."""

    step: int
    own: int = 0
    outside: int = 0

    def add(self, error: TrainerInterrupted) -> int:
        """How many more the job survives."""
        if error.cause == "outside":
            self.outside += 1
        else:
            self.own += 1
        return min(RESTARTS_WITHOUT_PROGRESS - self.own, KILLS_WITHOUT_PROGRESS - self.outside)


@dataclass(slots=True)
class _Wait:
    """How a job waits for what the machine lacks."""

    last_step: int  # of the job when it began
    since: float = field(default_factory=time.monotonic)
    pause: float = field(default_factory=lambda: SHORTAGE_PAUSE)
    told: bool = False


def _disk_is_full(settings: Settings, error: BaseException) -> Shortage:
    """What the job's owner reads: no paths, and how much is free."""
    cache = getattr(error, "code", None) == CACHE_NOT_WRITABLE
    place, disk = (settings.cache_dir, " of the cache") if cache else (settings.paths.jobs, "")
    return Shortage(f"The server's disk{disk} is full: {free_bytes(place):,} bytes are free.")


@dataclass(slots=True)
class Worker:
    """The state of one worker process, shared by its two loops."""

    store: Store
    settings: Settings
    stop: threading.Event
    launcher: Launcher
    evaluator: Launcher
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{base62(6)}")
    _checked: threading.Event = field(default_factory=threading.Event)  # a job has just become ready to train
    _interruptions: dict[str, "_Deaths"] = field(default_factory=dict)
    _shortages: dict[str, "_Wait"] = field(default_factory=dict)  # job -> how it waits for what the machine lacks

    def train(self) -> None:
        """Train one job after another until `stop` is set."""
        while not self.stop.is_set():
            self._checked.clear()
            if not self._next(f"{self.name}:train", TO_TRAIN, self._train):
                self._checked.wait(self.settings.poll_seconds)

    def check_files(self) -> None:
        """Check the files of new jobs until `stop` is set."""
        try:
            while not self.stop.is_set():
                if not self._next(f"{self.name}:check", TO_CHECK, self._check):
                    self.stop.wait(self.settings.poll_seconds)
        except Exception:
            log.exception("the thread that checks files failed; the worker ends, to be restarted")
            self.stop.set()
        self._checked.set()

    def _next(self, name: str, statuses: tuple[JobStatus, ...], work: Callable[[JobRow, Lease], None]) -> bool:
        """Claim a job and work on it; False when there was none.

        This is the job boundary: no job's error gets past it.
        """
        try:
            claimed = self.store.queue.claim(name, statuses, self.settings.lease_seconds)
            if claimed is None:
                return False
            self._guarded(work, *claimed)
        except ServiceUnavailable as error:
            log.warning("the database or the object storage does not answer", error=str(error))
            return False
        return True

    def _guarded(self, work: Callable[[JobRow, Lease], None], job: JobRow, lease: Lease) -> None:
        log.debug("claimed", job=job.id, status=str(job.status), attempt=job.attempt)
        try:
            work(job, lease)
        except LeaseLost as error:
            log.info("left", job=job.id, reason=error.message)
            self.store.models.clean(job.id)  # a cancelled job keeps only its checkpoints
        except Stopping:
            self.store.queue.release(lease)
        except TrainerInterrupted as error:
            self._interrupted(job, lease, error)
        except ServiceUnavailable:
            raise  # the lease expires, and another attempt continues
        except Shortage as error:
            self._short(job, lease, error)
        except TunesmithError as error:
            if is_full(error):
                self._short(job, lease, _disk_is_full(self.settings, error))
                return
            self._fail(job, lease, error)
        except Exception as error:
            if is_shortage(error):
                short = Shortage(f"The machine is short of something: {error}.")
                self._short(job, lease, _disk_is_full(self.settings, error) if is_full(error) else short)
                return
            log.exception("a job failed unexpectedly", job=job.id)
            text = f"Tunesmith failed on this job ({type(error).__name__}: {error}); the worker's log has the details."
            self._fail(job, lease, TunesmithError(text, code="server_error"))

    def _check(self, job: JobRow, lease: Lease) -> None:
        log.info("checking the files", job=job.id)
        checking = doing("checking the files of a job")
        with Heartbeat(self.store.queue, lease, self.settings.lease_seconds), checking:
            validate_job(self.store, self.settings, job, lease)
        self._checked.set()

    def _train(self, job: JobRow, lease: Lease) -> None:
        log.info("training", job=job.id, **({"from_step": job.last_step} if job.last_step else {}))
        TrainingRun(self.store, self.settings, job, lease, self.launcher, self.stop, self.evaluator).train()
        self._interruptions.pop(job.id, None)
        self._shortages.pop(job.id, None)
        log.info("succeeded", job=job.id, model=job.planned_model)

    def _interrupted(self, job: JobRow, lease: Lease, error: TrainerInterrupted) -> None:
        """Put the job back into the queue, unless it keeps dying at the same step."""
        row = self.store.jobs.get(job.id)
        step = 0 if row is None else row.last_step
        deaths = self._interruptions.get(job.id)
        if deaths is None or deaths.step != step:
            deaths = self._interruptions[job.id] = _Deaths(step)
        left = deaths.add(error)
        try:
            self.store.queue.append(lease, [interruption_event(error, left)])
        except LeaseLost:
            return
        if left > 0:
            self.store.queue.release(lease)
            return
        times = deaths.outside if error.cause == "outside" else deaths.own
        text = f"{error.message} This happened {times} times without a step of progress. {ADVICE[error.cause]}"
        self._fail(job, lease, TunesmithError(text, code="trainer_killed"))

    def _short(self, job: JobRow, lease: Lease, error: Shortage) -> None:
        """Try again after a while, up to `SHORTAGE_SECONDS` from the first time.

        A job that has not started waits in the queue for room on the disk, however long that takes.
        """
        wait = self._shortages.get(job.id)
        if wait is None or job.last_step > wait.last_step:  # it has gone on since: this is another shortage
            wait = self._shortages[job.id] = _Wait(job.last_step)
        in_queue = isinstance(error, NoRoom) and job.status is JobStatus.QUEUED
        if in_queue:
            wait.since = time.monotonic()  # what comes later has its own time
        if time.monotonic() - wait.since > SHORTAGE_SECONDS:
            text = f"{error.message} This went on for {SHORTAGE_SECONDS / 60:.0f} minutes."
            self._fail(job, lease, TunesmithError(text, code="server_error"))
            return
        log.warning("short of resources; the job waits", job=job.id, error=error.message, seconds=wait.pause)
        until = f"is tried again for up to {SHORTAGE_SECONDS / 60:.0f} minutes"
        try:
            if not wait.told:  # once, not at every try
                text = f"{error.message} It {'waits in the queue until there is room' if in_queue else until}"
                self.store.queue.append(lease, [NewEvent(text, level="warn")])
                wait.told = True
            self.stop.wait(wait.pause)
            wait.pause = min(2 * wait.pause, LONGEST_SHORTAGE_PAUSE)
            self.store.queue.release(lease)
        except LeaseLost as lost:
            log.info("left", job=job.id, reason=lost.message)

    def _fail(self, job: JobRow, lease: Lease, error: TunesmithError) -> None:
        log.info("failed", job=job.id, code=error.code, error=error.message)
        try:
            self.store.queue.fail(lease, code=error.code or "server_error", message=error.message, param=error.param)
        except LeaseLost as lost:
            log.info("left", job=job.id, reason=lost.message)
        self.store.models.clean(job.id)
