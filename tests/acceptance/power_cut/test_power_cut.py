"""The power goes at random moments; no job is lost, and the adapters are those of an undisturbed run.

`make power-cuts` makes a hundred cuts; `make test` makes one, while steps are taken.
"""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from tests.acceptance.power_cut.disk import KINDS, Disk, Kind
from tests.train.conftest import write_tiny_base

from tunesmith.models.adapters import TENSORS_FILE

CUTS = int(os.environ.get("POWER_CUTS", "1"))
SHARE = int(os.environ.get("POWER_CUTS_A_JOB", "12"))  # at most
STEPS = 30
PATIENCE = 240.0  # seconds
LEASE = 1.0
STEP = re.compile(rb'"type": ?"step", ?"step": ?(\d+)')


@pytest.fixture(scope="session")
def tiny_folder(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own base: random weights, SmolLM2's tokenizer."""
    return write_tiny_base(base_dir, tmp_path_factory.mktemp("own-base"))


@dataclass(frozen=True, slots=True)
class Moment:
    """When the power goes: after some time, or some time after the trainer has told of a step (0: of none)."""

    seconds: float
    step: int = 0
    later: float = 0.0

    def __str__(self) -> str:
        return f"step {self.step} + {self.later:.2f} s" if self.step else f"{self.seconds:.1f} s"


@dataclass(slots=True)
class Machine:
    """A worker on a disk that forgets."""

    disk: Disk
    base: Path
    log: Path
    cuts: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)  # of the table

    @property
    def data(self) -> Path:
        return self.disk.root / "data"

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "TUNESMITH_DATA_DIR": str(self.data),
            "TUNESMITH_BASES": json.dumps({"tiny": str(self.base)}),
            "TUNESMITH_LEASE_SECONDS": str(LEASE),
            "TUNESMITH_CHECKPOINT_SECONDS": "0.01",
            "TUNESMITH_POLL_SECONDS": "0.1",
            "OMP_NUM_THREADS": "1",
        }
        return {**os.environ, **own, **self.disk.environment()}

    def submit(self, seed: int) -> str:
        command = [sys.executable, "-m", "tests.acceptance.power_cut.submit", "tiny", str(seed)]
        ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def work(self, job: str, moment: "Moment") -> bool:
        """Whether the job ended before its moment came; then, or at that moment, everything is killed at once."""
        with self.log.open("a") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tunesmith.worker"], env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + moment.seconds
        ended = False
        while time.monotonic() < deadline and not ended:
            time.sleep(0.01)
            if moment.step and self.reached(job) >= moment.step:
                time.sleep(moment.later)
                break
            ended = self.status(job) in ("succeeded", "failed", "cancelled")
            assert worker.poll() is None, self.log.read_text()[-3000:]
        self._kill_all()
        worker.wait()
        return ended

    def status(self, job: str) -> str:
        """Read without writing: the test's own process does not say what it synced."""
        with sqlite3.connect(f"file:{self.data}/tunesmith.db?mode=ro", uri=True, timeout=20) as database:
            row = database.execute("select status from jobs where id = ?", (job,)).fetchone()
        database.close()
        assert row is not None, "the job is lost"
        return str(row[0])

    def events(self, job: str) -> list[str]:
        with sqlite3.connect(f"file:{self.data}/tunesmith.db?mode=ro", uri=True) as database:
            rows = database.execute("select message from events where job_id = ? order by seq", (job,)).fetchall()
        database.close()
        return [str(row[0]) for row in rows]

    def reached(self, job: str) -> int:
        """The last step that a trainer of the job has told of, stored or not."""
        told = (file.read_bytes() for file in self.data.glob(f"jobs/{job}/attempt-*.events.jsonl"))
        return max((int(one[1]) for text in told for one in STEP.finditer(text)), default=0)

    def cut(self, kind: Kind, seed: int) -> int:
        """How many files lost something."""
        lost = self.disk.cut(kind, seed)
        self.cuts.append(f"{kind} {seed}: {lost}")
        return len(lost)

    def adapter(self, job: str) -> str:
        (file,) = self.data.glob(f"jobs/{job}/**/adapter/{TENSORS_FILE}")
        return sha256(file.read_bytes()).hexdigest()

    def _kill_all(self) -> None:
        mark = ("SYNC_LOG_ROOT", str(self.disk.root))
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(mark[0]) == mark[1]:
                    process.send_signal(signal.SIGKILL)
                    process.wait(20)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue


def machine(folder: Path, base: Path) -> Machine:
    return Machine(Disk.new(folder), base, folder / "log")


def test_no_job_is_lost_and_adapters_are_equal(tiny_folder: Path, tmp_path: Path) -> None:
    whole = machine(tmp_path / "whole", tiny_folder)
    job = whole.submit(seed=7)
    began = time.monotonic()
    assert whole.work(job, Moment(PATIENCE))
    took = time.monotonic() - began
    assert whole.status(job) == "succeeded", whole.events(job)
    expected = whole.adapter(job)
    cuts = run = 0
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, a job of {STEPS} steps in {took:.1f} s undisturbed\n")
    print("| job | power gone at | step reached | disk | files that lost something | jobs lost | adapter equal |")
    print("| ---: | ---: | ---: | --- | ---: | ---: | --- |", flush=True)
    while cuts < CUTS:
        run += 1
        one = machine(tmp_path / str(run), tiny_folder)
        cuts += _disturbed(one, run, took, CUTS - cuts, expected)
        shutil.rmtree(tmp_path / str(run))
        for line in one.rows:
            print(f"| {run} | {line} | 0 | yes |", flush=True)
    seconds = time.monotonic() - began
    print(f"\n{cuts} cuts over {run} jobs in {seconds:.0f} s; jobs lost: 0, adapters equal: {run} of {run}")


def _disturbed(one: Machine, run: int, took: float, most: int, expected: str) -> int:
    """Trains one job with cuts; gives their number."""
    job = one.submit(seed=7)
    chance = random.Random(run)
    for cuts in range(min(most, SHARE) + 1):
        last = cuts >= min(most, SHARE)
        moment = Moment(PATIENCE) if last else _moment(chance, cuts, took, one.reached(job))
        if one.work(job, moment):
            break
        step = one.reached(job)
        kind = chance.choice(KINDS)
        lost = one.cut(kind, chance.randrange(10**6))
        one.rows.append(f"{moment} | {step} of {STEPS} | {kind} | {lost}")
    about = [*one.cuts, *one.events(job), one.log.read_text("utf-8")[-4000:]]
    assert one.status(job) == "succeeded", "\n".join(about)
    assert one.adapter(job) == expected, "\n".join(about)
    return len(one.cuts)


def _moment(chance: random.Random, cuts: int, took: float, reached: int) -> Moment:
    """Two of three cuts are made while steps are taken or the adapter is written, wherever the machine is quick."""
    if cuts % 3 == 0 and CUTS > 1:
        return Moment(chance.uniform(0.2, 1.1) * took)
    return Moment(PATIENCE, min(STEPS, reached + chance.randint(1, 5)), chance.uniform(0, 0.3))
