"""From `POST /v1/fine_tuning/jobs` to the first step, on a warm Ray cluster and by a child process: seconds.

    python -m bench.cluster.first_step [--runs 3] [--bases tiny smollm2-135m-instruct]

A server and a cluster of one head and two nodes on this machine; both launchers in turn, each with a server of its own
that has trained one job before (compiled kernels, checked file and base are in their caches). The median is over the
runs; a tiny random base and the default one. A base is loaded anew for each job, as always.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from openai import OpenAI
from tests.acceptance.ray.conftest import trainers
from tests.ray_cluster import RayCluster
from tests.servers import serving
from tests.train.conftest import write_tiny_base

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings

ROWS = Path(__file__).parents[2] / "examples" / "weather-jokes.jsonl"
LOOK_SECONDS = 0.05
REST_SECONDS = 1.0  # for actors and evaluators to end
LONGEST_SECONDS = 120.0
DEFAULT = "smollm2-135m-instruct"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bases", nargs="+", default=["tiny", DEFAULT])
    given = parser.parse_args()
    runs: int = given.runs
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="first-step-")))
        base = pull(resolve_base(DEFAULT, Settings()), Settings())
        (folder / "base").mkdir()
        tiny = write_tiny_base(base, folder / "base")
        cluster = RayCluster()
        cluster.start()
        stack.callback(cluster.close)
        os.environ |= cluster.environment  # of the servers' workers: the cluster's token
        places = {"child": "child", "ray": cluster.address}
        clients = {name: stack.enter_context(client(folder / name, place, tiny)) for name, place in places.items()}
        print("| base | launcher | seconds to the first step | of them each |\n| --- | --- | ---: | --- |")
        for model in given.bases:
            seconds: dict[str, list[float]] = {name: [] for name in clients}
            for number in range(runs + 1):  # the first warms caches
                for name, one in clients.items():
                    took = first_step(one, model)
                    if number:
                        seconds[name].append(took)
            for name, each in seconds.items():
                shown = ", ".join(f"{one:.2f}" for one in each)
                print(f"| {model} | {name} | {statistics.median(each):.2f} | {shown} |", flush=True)


@contextmanager
def client(directory: Path, launcher: str, tiny: Path) -> Iterator[OpenAI]:
    directory.mkdir()
    settings = {"launcher": launcher, "bases": f'{{"tiny": "{tiny}"}}', "train_idle": "false", "train_threads": "1"}
    with serving(directory, **settings) as server:
        yield OpenAI(base_url=server.base_url, api_key=server.key)


def first_step(one: OpenAI, model: str) -> float:
    """Creates a job, waits for its first step, and cancels it."""
    file = one.files.create(file=ROWS, purpose="fine-tune")
    one.files.wait_for_processing(file.id, poll_interval=LOOK_SECONDS)
    begun = time.monotonic()
    job = one.fine_tuning.jobs.create(model=model, training_file=file.id, seed=1)
    while not any(event.type == "metrics" for event in one.fine_tuning.jobs.list_events(job.id, limit=20).data):
        late = time.monotonic() - begun > LONGEST_SECONDS
        if late or one.fine_tuning.jobs.retrieve(job.id).status in ("failed", "cancelled"):
            said = [event.message for event in one.fine_tuning.jobs.list_events(job.id, limit=20).data]
            raise SystemExit(f"The job has no first step: {said}")
        time.sleep(LOOK_SECONDS)
    took = time.monotonic() - begun
    one.fine_tuning.jobs.cancel(job.id)
    while trainers(job.id):  # the next one has the processors for itself
        time.sleep(LOOK_SECONDS)
    time.sleep(REST_SECONDS)
    return took


if __name__ == "__main__":
    main()
