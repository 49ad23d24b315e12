"""How long a python grader takes in its jail.

python -m bench.serving.python_graders [--calls 300]

Prints the time from a call to its score (median and 95th percentile) one after the other without a pause, and with one
of 20 ms, in which the next process gets ready; a grader that imports numpy; calls a second from several threads; the
first call, which starts the jail; and the memory of the processes that wait.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from tunesmith.graders.jail.jail import Jail, JailLimits
from tunesmith.graders.jail.places import Ticket

PLAIN = "def grade(sample, item): return float(sample['output_text'] == item['label'])"
NUMPY = "import numpy as np\ndef grade(sample, item): return np.mean([c == 'R' for c in sample['output_text']])"
PAUSE = 0.02  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=300)
    calls = parser.parse_args().calls
    jail = Jail(JailLimits())
    begun = time.perf_counter()
    if lacking := jail.missing():
        raise SystemExit(f"Python graders are not run here: {lacking}.")
    print(f"the start, with the jail's own test: {time.perf_counter() - begun:.2f} s")
    for _ in range(10):
        _call(jail, NUMPY)
    for name, source, pause in (
        ("plain", PLAIN, 0.0),
        ("plain, 20 ms apart", PLAIN, PAUSE),
        ("numpy", NUMPY, 0.0),
        ("numpy, 20 ms apart", NUMPY, PAUSE),
    ):
        print(f"{name}: {_summary([_call(jail, source, pause) for _ in range(calls)])}", flush=True)
    begun = time.perf_counter()
    with ThreadPoolExecutor(2 * jail.places) as threads:
        list(threads.map(lambda _: _call(jail, PLAIN), range(calls)))
    print(
        f"{2 * jail.places} threads, {jail.places} places: {calls / (time.perf_counter() - begun):.0f} calls a second"
    )
    time.sleep(1)  # until all are ready again
    children = psutil.Process().children(recursive=True)
    print(f"memory of {len(children)} processes: {sum(one.memory_full_info().pss for one in children) >> 20} MiB")
    jail.stop()


def _call(jail: Jail, source: str, pause: float = 0.0) -> float:
    """Seconds from the call to its score."""
    time.sleep(pause)
    request = json.dumps({"source": source, "sample": {"output_text": "Rome"}, "item": {"label": "Rome"}}).encode()
    ticket = Ticket()
    begun = time.perf_counter()
    answer = jail.ask(request, "bench", ticket)
    seconds = time.perf_counter() - begun
    ticket.close()
    assert answer.kind == "score", answer
    return seconds


def _summary(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(seconds, n=20)
    return f"p50 {cuts[9] * 1000:.2f} ms, p95 {cuts[18] * 1000:.2f} ms"


if __name__ == "__main__":
    main()
