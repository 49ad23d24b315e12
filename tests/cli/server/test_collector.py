"""What the server exempts from garbage collection, in a process of its own."""

import subprocess
import sys

SCRIPT = """
import gc, time, weakref
from tunesmith.cli.server.collector import WHOLE_SECONDS, Collector

class Ring:
    def __init__(self):
        self.ring = self

now = [0.0]
collector = Collector.started(lambda: now[0])
started = gc.get_freeze_count()
loaded = [[number] for number in range(300_000)]  # what a base model brings
ring = Ring()
known = weakref.ref(ring)
gc.collect()
print(gc.get_freeze_count() - started > 300_000)
print(len(gc.get_objects()) < 10_000)  # what the next collection walks through
del ring
gc.collect()
print(known() is not None)
now[0] += WHOLE_SECONDS
gc.collect()
print(known() is None)
collector.stop()
print(gc.get_freeze_count(), gc.callbacks)
"""


def test_what_survived_is_left_out_until_an_hour_has_passed() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["True", "True", "True", "True", "0 []", ""]
