"""A serving step of this tree beside one of an earlier commit, in turn: is it as fast, with the same bits?

    python bench/serving/kernels/variants.py --before main --rounds 15

Two processes, each with the code of one side and the same random model of SmolLM2-135M's shape, take a round each in
turn while the other waits; what counts is the median of the rounds' ratios.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STREAMS, STEPS, PROMPT = (1, 8), 24, 256


def main() -> None:
    """Prints a line for each number of streams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="main", help="a commit")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.threads, options.layers)
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", options.before, "src"], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        workers = [start(tree, options) for tree in (Path(folder), ROOT)]
        for streams in STREAMS:
            print(f"{streams} streams: {compare(workers, streams, options.rounds)}")
        for worker in workers:
            worker.communicate("\n", timeout=60)


def start(tree: Path, options: argparse.Namespace) -> "subprocess.Popen[str]":
    """A process with the code of `tree`."""
    command = [sys.executable, __file__, "--worker", f"--threads={options.threads}", f"--layers={options.layers}"]
    environment = {"PYTHONPATH": str(tree / "src"), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tree
    )


def compare(workers: "list[subprocess.Popen[str]]", streams: int, rounds: int) -> str:
    """Rounds in turn, the first of which is not counted."""
    pairs: list[list[tuple[float, str]]] = []
    for turn in range(rounds + 1):
        order = workers if turn % 2 else workers[::-1]
        taken = [ask(worker, streams) for worker in order]
        pairs.append(taken if turn % 2 else taken[::-1])
    del pairs[0]
    ratios = sorted(after[0] / before[0] for before, after in pairs)
    same = {digest for pair in pairs for _, digest in pair}
    bits = "the same bits" if len(same) == 1 else "OTHER BITS"
    before, after = (statistics.median(pair[side][0] for pair in pairs) for side in range(2))
    middle = statistics.median(ratios)
    quarter = len(ratios) // 4
    spread = f"{ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
    return (
        f"{1000 * before:.2f} -> {1000 * after:.2f} ms a step, ratio {middle:.3f} (half of {rounds}: {spread}), {bits}"
    )


def ask(worker: "subprocess.Popen[str]", streams: int) -> tuple[float, str]:
    """The seconds of a step, and a digest of its logits."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{streams}\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("took "):
            _, seconds, digest = line.split()
            return float(seconds), digest
    raise SystemExit("a process ended early: see its error above")


def work(threads: int, layers: int) -> None:
    """Answers numbers of streams on stdin with the time of a step, until an empty line."""
    import hashlib

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.serve.engine.model import SequenceChunk
    from tunesmith.serve.local.llama_runner import CompiledRunner
    from tunesmith.serve.local.torch_weights import weights_of

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    runner = CompiledRunner(weights_of(LlamaForCausalLM(config).eval()))
    ids = tuple(torch.randint(0, 49152, (PROMPT + STEPS,)).tolist())
    with torch.inference_mode():
        for line in sys.stdin:
            if not line.strip():
                return
            slots = range(int(line))
            runner.forward([SequenceChunk(slot, 0, ids[:PROMPT], None, 0) for slot in slots], threads)
            started = time.perf_counter()
            for place in range(PROMPT, PROMPT + STEPS):
                new = ids[place : place + 1]
                logits = runner.forward([SequenceChunk(slot, place, new, None, 1) for slot in slots], threads)
            seconds = (time.perf_counter() - started) / STEPS
            print("took", seconds, hashlib.sha256(logits.tobytes()).hexdigest()[:16], flush=True)


if __name__ == "__main__":
    main()
