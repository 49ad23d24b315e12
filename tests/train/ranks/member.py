"""What a rank of these tests runs: forked from a process that has imported all of it, so that it starts at once."""

import json
import os
import signal
from pathlib import Path

import numpy
import torch
import torch._dynamo  # these are imported late by what the trainer calls
from transformers.models.llama import modeling_llama

import tunesmith.kernels.training.step
import tunesmith.train.start
from tunesmith.train.__main__ import main
from tunesmith.train.core.device import Device
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.protocol.events import Event, Step
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import join
from tunesmith.train.ranks.place import Place
from tunesmith.train.ranks.watch import Ending

LATE = (torch._dynamo, modeling_llama, tunesmith.kernels.training.step)


def trainer(environment: dict[str, str], spec: Path, output: Path) -> None:
    """The trainer's process, with its stdout and stderr in files."""
    os.environ.update(environment)
    for number, name in ((1, "events"), (2, "errors")):
        os.dup2(os.open(output.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os._exit(main([str(spec)]))


def exact(environment: dict[str, str], spec: Path, output: Path) -> None:
    """The same run in float64; its events and trained values in files. STOP_AFTER: stops rank 0 after that step."""
    os.environ.update(environment)
    place, interrupt = Place.of(environment), Interrupt()
    interrupt.install()
    events: list[Event] = []
    last = int(environment.get("STOP_AFTER", "0"))

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Step) and event.step == last:
            signal.raise_signal(signal.SIGTERM)

    ending = Ending("done")
    with interrupt.interruptible():
        ranks = join(place, interrupt)
        device = Device("cpu", torch.float64, sharers=place.local_size)
        run = tunesmith.train.start.start(TrainSpec.read(spec), listen, interrupt, ranks, device)
    try:
        run.train()
    except Stopped:
        ending = Ending("stopped")
    numpy.save(output.with_suffix(".npy"), run.trainable.flat.detach().numpy())
    output.with_suffix(".events").write_text("".join(json.dumps(event.to_json()) + "\n" for event in events))
    ranks.leave(ending)
    os._exit(0 if ending.how == "done" else 143)
