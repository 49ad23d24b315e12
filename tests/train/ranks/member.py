"""What a rank of these tests runs: forked from a process that has imported all of it, so that it starts at once."""

import json
import os
import signal
from pathlib import Path

import numpy
import torch
import torch._dynamo  # these are imported late by what the trainer calls
import torch.distributed.run
from transformers.models.llama import modeling_llama

import tunesmith.kernels.training.step
import tunesmith.train.sharding.load
import tunesmith.train.start
from tunesmith.train.__main__ import main
from tunesmith.train.core.device import Device
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.protocol.events import Event, Step
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import Ranks, join
from tunesmith.train.ranks.place import Place
from tunesmith.train.ranks.watch import Ending

LATE = (torch._dynamo, modeling_llama, tunesmith.kernels.training.step, tunesmith.train.sharding.load)


def trainer(environment: dict[str, str], spec: Path, output: Path) -> None:
    """The trainer's process, with its stdout and stderr in files."""
    _begin(environment, output)
    os._exit(main([str(spec)]))


def torchrun(environment: dict[str, str], spec: Path, output: Path) -> None:
    """`torchrun --nproc-per-node 2 -m tunesmith.train SPEC`, without importing torch once more."""
    _begin(environment, output)
    port = ["--master-port", environment["MASTER_PORT"]]
    torch.distributed.run.main([*port, "--nproc-per-node", "2", "-m", "tunesmith.train", str(spec)])
    os._exit(0)


def _begin(environment: dict[str, str], output: Path) -> None:
    os.environ.update(environment)
    for number, name in ((1, "events"), (2, "errors")):
        os.dup2(os.open(output.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)


def exact(environment: dict[str, str], spec: Path, output: Path) -> None:
    """Runs in float64, one after another; their events and trained values in files.

    ALSO: more specs, in one line. STOP_AFTER: stops rank 0 after that step of the last.
    """
    os.environ.update(environment)
    os.dup2(os.open(output.with_suffix(".errors"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    place, interrupt = Place.of(environment), Interrupt()
    interrupt.install()
    with interrupt.interruptible():
        ranks = join(place, interrupt)
    specs = [spec, *map(Path, environment.get("ALSO", "").split())]
    for number, one in enumerate(specs):
        last = int(environment.get("STOP_AFTER", "0")) if one is specs[-1] else 0
        ending = _exact(TrainSpec.read(one), output_of(output, number), interrupt, ranks, last)
    ranks.leave(ending)
    os._exit(0 if ending.how == "done" else 143)


def output_of(output: Path, number: int) -> Path:
    return output.with_name(f"{output.name}-{number}") if number else output


def _exact(spec: TrainSpec, output: Path, interrupt: Interrupt, ranks: Ranks, last: int) -> Ending:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Step) and event.step == last:
            signal.raise_signal(signal.SIGTERM)

    ending = Ending("done")
    with interrupt.interruptible():
        device = Device("cpu", torch.float64, sharers=ranks.place.local_size)
        run = tunesmith.train.start.start(spec, listen, interrupt, ranks, device)
    try:
        run.train()
        values = run.trainable.values()  # sharded ones are brought together on rank 0
        numpy.save(output.with_suffix(".npy"), (torch.empty(0) if values is None else values).numpy())
    except Stopped:
        ending = Ending("stopped")
    output.with_suffix(".events").write_text("".join(json.dumps(event.to_json()) + "\n" for event in events))
    return ending
