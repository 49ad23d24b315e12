"""The worker: claim a job, check its files, train, relay reports, finish.

Several workers may run on one database. Each trains one job at a time and checks the files of others meanwhile.
"""

from tunesmith.worker.loop import run_worker
from tunesmith.worker.process import WorkerProcess

__all__ = ["WorkerProcess", "run_worker"]
