"""The engines that `bench/serve.py` measures, each in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.serving.gguf_files import export_base, write_adapter, write_base

HELPER = Path(__file__).with_name("peers.py")
OURS = ""  # the environment of the tests

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine to be measured.

    `environment` is one of .venvs/, or OURS. `weight_bytes` and `adapter_bytes` are those of one value in memory.
    """

    title: str
    program: str  # of serve_peers.py
    environment: str = OURS
    weight_bytes: float = 4.0
    adapter_bytes: float = 4.0
    caches: bool = True  # a prompt's beginning is not read again
    options: dict[str, str | bool] = field(default_factory=dict)
    undrafted: bool = False  # ours, only there to show what drafts are worth

    @property
    def ours(self) -> bool:
        return self.program == "tunesmith"


def _ours(title: str, weights: str, weight_bytes: float, *, drafts: bool = True, undrafted: bool = False) -> Kind:
    options: dict[str, str | bool] = {"weights": weights, "drafts": drafts and not undrafted}
    return Kind(title, "tunesmith", weight_bytes=weight_bytes, options=options, undrafted=undrafted)


# llama.cpp's Q8_0 is 34 bytes for 32 values. OpenVINO's 16-bit types would be emulated or round sums as well.
KINDS = {
    "float32": _ours("Tunesmith float32", "float32", 4.0),
    "float32-undrafted": _ours("Tunesmith float32, no drafts", "float32", 4.0, undrafted=True),
    "float16": _ours("Tunesmith float16", "float16", 2.0),
    "float16-undrafted": _ours("Tunesmith float16, no drafts", "float16", 2.0, undrafted=True),
    "stored": _ours("Tunesmith, 16 bits as stored", "auto", 2.0, drafts=False),
    "int8": _ours("Tunesmith int8", "int8", 17 / 16, drafts=False),
    "int4": _ours("Tunesmith int4", "int4", 37 / 64, drafts=False),
    "llamacpp-f16": Kind("llama.cpp F16", "llamacpp", "llamacpp", 2.0, 2.0, options={"weights": "F16"}),
    "llamacpp-q8": Kind("llama.cpp Q8_0", "llamacpp", "llamacpp", 34 / 32, 2.0, options={"weights": "Q8_0"}),
    "llamacpp-q4": Kind("llama.cpp Q4_K_M", "llamacpp", "llamacpp", 0.62, 2.0, options={"weights": "Q4_K_M"}),
    "openvino": Kind("OpenVINO fp32", "openvino", "openvino", caches=False),
    "transformers": Kind("transformers + PEFT", "transformers", caches=False),
}


SHAPED = (
    "stored",
    "int8",
    "int4",
    "llamacpp-f16",
    "llamacpp-q8",
    "llamacpp-q4",
)  # a base in bfloat16; random weights repeat themselves
UNSHAPED = tuple(name for name in KINDS if name not in ("stored", "int8", "int4", "llamacpp-q4"))


@dataclass(frozen=True, slots=True)
class Models:
    """What the engines read, and what is made of it for those that want another form."""

    base_dir: Path
    gguf: Path | None  # the file that the base came from
    adapters: list[Path]  # PEFT directories
    derived: Path  # kept between runs: converting takes up to a minute
    scratch: Path
    environments: Path
    threads: int

    def python(self, kind: Kind) -> Path:
        """It may not be there."""
        return Path(sys.executable) if kind.environment == OURS else self.environments / kind.environment / "bin/python"

    def job(self, kind: Kind) -> dict[str, object]:
        """What the engine's process is told."""
        job: dict[str, object] = {
            "kind": kind.program,
            "base_dir": str(self.base_dir),
            "adapters": [str(adapter) for adapter in self.adapters],
            "threads": self.threads,
            "options": kind.options,
            "scratch": str(self.scratch / "data"),
        }
        if kind.program == "llamacpp":
            return job | {"model": str(self._gguf(str(kind.options["weights"]))), "adapters": self._gguf_adapters()}
        if kind.program == "openvino":
            tensors = [str(adapter / "adapter_model.safetensors") for adapter in self.adapters]
            scales = [_alpha(adapter) for adapter in self.adapters]
            return job | {"model": str(self._openvino(kind)), "adapters": [*zip(tensors, scales, strict=True)]}
        return job

    def _gguf(self, width: str) -> Path:
        target = self.derived / f"{self.base_dir.name}.{width}.gguf"
        if not target.is_file():
            partial = target.with_suffix(".partial")
            made = write_base(self.gguf, partial, width) if self.gguf else export_base(self.base_dir, partial, width)
            made.rename(target)
        return target

    def _gguf_adapters(self) -> list[str]:
        targets = [self.scratch / f"adapter-{place}.gguf" for place in range(len(self.adapters))]
        for adapter, target in zip(self.adapters, targets, strict=True):
            if not target.is_file():
                write_adapter(adapter, self.base_dir, target)
        return [*map(str, targets)]

    def _openvino(self, kind: Kind) -> Path:
        target = self.derived / f"{self.base_dir.name}.openvino"
        if not target.is_dir():
            print("(Converting the base for OpenVINO, once: a minute or two.)", flush=True)
            partial = target.with_suffix(".partial")
            tool = self.python(kind).with_name("optimum-cli")
            command = [str(tool), "export", "openvino", "--model", str(self.base_dir), "--weight-format", "fp32"]
            command += ["--task", "text-generation-with-past", str(partial)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            partial.rename(target)
        return target


def _alpha(adapter: Path) -> float:
    """What OpenVINO multiplies the product of an adapter's two matrices with."""
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    return float(config["lora_alpha"]) / float(config["r"])


def present(names: Sequence[str], models: Models) -> list[str]:
    """Those whose environment is here; the others are named."""
    missing = [name for name in names if not models.python(KINDS[name]).exists()]
    if missing:
        print(f"({', '.join(missing)}: no environment in {models.environments}; see `bench/serve.py --help`.)")
    return [name for name in names if name not in missing]


class Running:
    """An engine's process.

    It is paused (SIGSTOP) while it has nothing to do, so that only one engine uses the machine.
    """

    def __init__(self, name: str, models: Models) -> None:
        self.name, self.kind = name, KINDS[name]
        models.scratch.mkdir(parents=True, exist_ok=True)
        job_file = models.scratch / f"{name}.json"
        job_file.write_text(json.dumps(models.job(self.kind)))
        self._errors = models.scratch / f"{name}.err"
        began = time.perf_counter()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(models.python(self.kind)), str(HELPER), str(job_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._read()
        self.start_seconds = time.perf_counter() - began
        self._process.send_signal(signal.SIGSTOP)

    def ask(
        self,
        prompts: list[list[int]],
        adapters: Sequence[int | None],
        max_tokens: int,
        *,
        stop: bool = False,
        cache: str | None = None,
        in_turn: bool = False,
    ) -> tuple[float, list[list[int]]]:
        """Seconds for all of them, and the answers."""
        command = {"prompts": prompts, "adapters": [*adapters], "max_tokens": max_tokens}
        answer = self._command(command | {"stop": stop, "cache": cache, "in_turn": in_turn})
        return answer["seconds"], answer["tokens"]

    def add(self, adapter: Path) -> float | None:
        seconds: float | None = self._command({"add": str(adapter)})["seconds"]
        return seconds

    def peak_bytes(self) -> int:
        """The largest resident memory that the kernel saw."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        mark = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(mark[1]) * 1024 if mark else 0

    def seconds_used(self) -> float:
        """Of processor time."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _command(self, command: dict[str, object]) -> Answer:
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._read()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def _read(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.kind.title} failed:\n{self._errors.read_text('utf-8', 'replace')[-3000:]}")
        answer: Answer = json.loads(line)
        return answer


class ForeignWork:
    """Counts what programs other than the engines and this one do, from its making on."""

    def __init__(self, engines: list[Running]) -> None:
        self._engines = engines
        self._ours, self._all, self._began = self._used(), _busy_seconds(), time.perf_counter()

    def share(self) -> float:
        """Of all processors' time."""
        busy, ours = _busy_seconds() - self._all, self._used() - self._ours
        return max(0.0, busy - ours) / ((time.perf_counter() - self._began) * (os.cpu_count() or 1))

    def _used(self) -> float:
        return time.process_time() + sum(engine.seconds_used() for engine in self._engines)


def _busy_seconds() -> float:
    """User, nice, system, interrupts and stolen time of all processors since the machine started."""
    ticks = [*map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
