"""The process with the connection: `python -m tunesmith.launch.ray ORDER`.

It is a process of its own because Ray ends the process that it is in when the cluster's head is gone for a minute.
Its stdout is the trainer's, its log the trainer's log.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from tunesmith.launch.ray.follow import follow
from tunesmith.launch.ray.order import Order
from tunesmith.system.atomic_write import write_atomically
from tunesmith.train.protocol.events import claim_stdout


def main(arguments: list[str]) -> None:
    """Has the order carried out; its status file says how the trainer ended."""
    order = Order.read(Path(arguments[0]))
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    def listen() -> None:  # once more when Ray has put its own handler there
        signal.signal(signal.SIGTERM, on_signal)

    listen()
    status = follow(order, claim_stdout(), stop, listen)
    write_atomically(order.status, str(status).encode())
    sys.stderr.flush()
    os._exit(0)  # Ray's threads may still wait for a cluster that is gone


if __name__ == "__main__":
    main(sys.argv[1:])
