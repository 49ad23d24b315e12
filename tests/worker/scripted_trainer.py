"""A stand-in for the trainer at its process seam: it speaks the same lines, trains nothing, and misbehaves on demand.

What to do comes from the environment as JSON: `steps`, `seconds` a step, `every` (steps between checkpoints), and
`kill_at` (SIGKILL itself once), `kill_always`, `signal` (in place of SIGKILL), `fail_at` (with `fail_code`),
`exit_at`, `deaf` (ignores SIGTERM), `skip_replay`, `short` (so many times it gets no thread), `noise` (lines written
before the first step), `tokens` (of each step, at 100 a second).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

MANIFEST = {  # of an adapter that nobody loads
    "base_name": "smollm2-135m-instruct",
    "base_fingerprint": "",
    "renderer": "",
    "rank": 16,
    "alpha": 32.0,
    "target_modules": [],
    "step": 6,
    "sha256": "ab" * 32,
}
SCRIPT = json.loads(os.environ["SCRIPTED_TRAINER"])


def emit(kind: str, **values: object) -> None:
    print(json.dumps({"type": kind, **values}), flush=True)


def stop(*_: object) -> None:
    sys.exit(143)


def step(number: int, steps: int) -> None:
    values = {"train_loss": 1 / number, "train_mean_token_accuracy": 0.5, "seconds_left": 1.0, "learning_rate": 1e-4}
    if number % 2 == 0:
        values |= {"valid_loss": 2 / number, "valid_mean_token_accuracy": 0.25}
    if tokens := SCRIPT.get("tokens"):
        values |= {"computed_tokens": tokens[number - 1], "trained_tokens": sum(tokens[:number])}
        values |= {"tokens_per_second": 100.0, "peak_memory_bytes": 1_000_000_000}
    emit("step", step=number, total_steps=steps, epoch=1, **values)


def checkpoint(number: int, output: Path) -> None:
    path = output / "checkpoints" / f"step-{number:06d}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_text("{}")
    emit("checkpoint", step=number, epoch=1, path=str(path), metrics={"train_loss": 1 / number})


def misbehave(number: int, output: Path) -> None:
    once = output / "misbehaved"
    if SCRIPT.get("kill_always") == number or (SCRIPT.get("kill_at") == number and not once.exists()):
        once.touch()
        os.kill(os.getpid(), SCRIPT.get("signal", signal.SIGKILL))
    tries = len(list(output.glob("short-*")))
    if tries < SCRIPT.get("short", 0):
        (output / f"short-{tries}").touch()
        sys.exit("RuntimeError: can't start new thread")
    if SCRIPT.get("fail_at") == number:
        code = SCRIPT.get("fail_code", "non_finite_loss")
        emit("failed", code=code, message="The loss of step 2 is nan.", param=None)
        sys.exit(1)
    if SCRIPT.get("exit_at") == number:
        sys.exit("ValueError: the tail of a traceback")


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    output = Path(spec["output_dir"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN if SCRIPT.get("deaf") else stop)
    steps, every = SCRIPT.get("steps", 6), SCRIPT.get("every", 3)
    progress = output / "progress.json"
    done = json.loads(progress.read_text()) if progress.exists() else 0
    emit("started", total_steps=steps, resumed_from_step=done)
    emit("log", level="info", message="LoRA of rank 16")
    for line in SCRIPT.get("noise", ()):
        sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.flush()
    for number in range(done + 1 if SCRIPT.get("skip_replay") else 1, steps + 1):
        if number > done:
            time.sleep(SCRIPT.get("seconds", 0.0))
            misbehave(number, output)
        step(number, steps)
        if number % every == 0:
            checkpoint(number, output)
        partial = progress.with_suffix(".partial")
        partial.write_text(str(max(number, done)))
        partial.replace(progress)
    adapter = output / "adapter"
    adapter.mkdir(exist_ok=True)
    (adapter / "manifest.json").write_text(json.dumps(MANIFEST))
    emit("done", steps=steps, trained_tokens=6810, path=str(adapter))


main()
