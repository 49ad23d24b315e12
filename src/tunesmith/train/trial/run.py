"""The trial of a device, from its first product to the table.

Each line is tried by itself: what fails or does not fit is a line too, and what there is no time for is left out.
"""

import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import transformers

from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import MANIFEST_FILE
from tunesmith.system.memory import is_out_of_memory
from tunesmith.train.core.device import Device, free_unused
from tunesmith.train.paths.accelerate import restore
from tunesmith.train.paths.choose_attention import varlen_gap
from tunesmith.train.paths.flops import matmul_peak
from tunesmith.train.trial import ours, peers
from tunesmith.train.trial.ours import Measures, tuned
from tunesmith.train.trial.results import Found
from tunesmith.train.trial.shapes import SHAPES, Shape, build, load

SPEED_SECONDS = 12.0
LEAST_SECONDS = 30.0  # with less left nothing more is begun
ROOM = 1.5  # times the weights have to fit, for activations


@dataclass(slots=True)
class Trial:
    """A device under trial, with what was found so far."""

    device: Device
    seconds: float  # for all of it
    say: Callable[[str], None]
    found: list[Found] = field(default_factory=list)
    peak_flops: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def run(self, names: Sequence[str], base: Path | None) -> list[Found]:
        """All that there is time for, the small shapes first."""
        self.device.use()
        self.line("-", "matrix products", self._peak)
        for name in names:
            self._shape(name, SHAPES[name])
        if base is not None:
            self._base(base)
        return self.found

    def line(self, shape: str, what: str, work: Callable[[], Measures]) -> None:
        """One line of the table, whatever becomes of it."""
        if self.seconds - (time.monotonic() - self.began) < LEAST_SECONDS:
            self._add(Found(shape, what, "no time left"))
            return
        began, measures, outcome = time.monotonic(), {}, "ok"
        try:
            measures = work()
        except Exception as error:  # any of them is a finding
            said = " ".join(str(error).split())[:160]
            outcome = "does not fit" if is_out_of_memory(error) else f"failed: {type(error).__name__}: {said}"
        restore()
        free_unused()
        self._add(Found(shape, what, outcome, measures, time.monotonic() - began))

    def _add(self, found: Found) -> None:
        self.found.append(found)
        self.say(f"{found.shape} {found.what}: {found.outcome} {found.measures}")

    def _peak(self) -> Measures:
        self.peak_flops = matmul_peak(self.device)
        return {"TFLOP/s": self.peak_flops / 1e12}

    def _shape(self, name: str, shape: Shape) -> None:
        free, weights = self.device.free_memory(), shape.parameters * self.device.dtype.itemsize
        if ROOM * weights > free:
            self._add(Found(name, "all", f"does not fit: {weights / 1e9:.1f} GB of weights, {free / 1e9:.1f} GB free"))
            return
        make = partial(build, shape, self.device)
        self._ours(name, shape, make)
        if 4 * ROOM * shape.parameters < self.device.free_memory():
            self.line(name, "loss beside float32", lambda: self._against_float32(shape))
        self.line(name, "TRL", lambda: self._trl(shape, make))
        if name == "0.6B" or not self.device.is_gpu:
            self.line(name, "vLLM, two adapters", lambda: self._vllm(shape))

    def _ours(self, name: str, shape: Shape, make: Callable[[], transformers.PreTrainedModel]) -> None:
        def speed(*, padded: bool) -> Measures:
            return ours.speed(tuned(make(), self.device, padded=padded), shape, self.peak_flops, SPEED_SECONDS)

        if self.device.is_gpu:
            self.line(name, "attention without a mask", lambda: {"": varlen_gap(make()) or "as with one"})
        self.line(name, "LoRA, token tree", partial(speed, padded=False))
        self.line(name, "LoRA, padded rows", partial(speed, padded=True))
        self.line(name, "resume", lambda: ours.resume(tuned(make(), self.device), shape))

    def _against_float32(self, shape: Shape) -> Measures:
        narrow = torch.bfloat16 if not self.device.is_gpu else self.device.dtype
        return ours.against_float32(build(shape, self.device, torch.float32), narrow, shape)

    def _trl(self, shape: Shape, make: Callable[[], transformers.PreTrainedModel]) -> Measures:
        absent = peers.missing("trl", "peft", "datasets")
        if absent:
            return {"": absent}
        with tempfile.TemporaryDirectory() as folder:
            return peers.trl_speed(make(), shape, self.device, Path(folder))

    def _vllm(self, shape: Shape) -> Measures:
        absent = peers.missing("vllm")
        if absent:
            return {"": absent}
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / "base"
            build(shape, self.device).save_pretrained(base)
            free_unused()
            adapters = [peers.write_adapter(base, shape, seed, Path(folder) / f"adapter-{seed}") for seed in (1, 2)]
            return peers.vllm_answers(base, adapters, shape)

    def _base(self, directory: Path) -> None:
        if not (directory / "config.json").is_file():
            self._add(Found(directory.name, "all", "not there"))
            return
        tuned_weights = (directory / MANIFEST_FILE).is_file()
        shape = SHAPES["tiny" if not self.device.is_gpu else "0.6B"]  # its rows; the sizes are the base's own
        self._ours(directory.name + (" (tuned)" if tuned_weights else ""), shape, partial(load, directory, self.device))


def machine(device: Device) -> JsonObject:
    """Where the trial was made, and with which versions."""
    card = torch.cuda.get_device_name(device.name) if device.is_gpu else platform.processor() or platform.machine()
    return {
        "device": device.name,
        "hardware": card,
        "dtype": str(device.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
