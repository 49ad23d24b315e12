"""Chat generation: plain transformers `generate` (with PEFT) and our engine in turn, same prompts, same weights.

    python bench/serve.py [--rounds 3] [--tokens 64] [--threads 0] [--json]

Prints tokens per second (median over the rounds), the ratio, and the share of what the memory's bandwidth allows at one
stream (every weight is read once per token). Also says whether the greedy tokens were equal.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunesmith.data.messages import Message
from tunesmith.data.render import Renderer, load_renderer
from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.directory import fingerprint, pull
from tunesmith.models.registry import resolve_base
from tunesmith.serve.engine import GenerateRequest
from tunesmith.serve.torch_engine import TorchEngine, load_engine
from tunesmith.settings import Settings

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    prompt: list[int]
    new_tokens: int
    choices: int
    tuned: bool
    counts_prompt: bool = False  # tokens per second of the prompt rather than of the answer

    @property
    def work(self) -> int:
        return len(self.prompt) if self.counts_prompt else self.new_tokens * self.choices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    threads = options.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    settings = Settings(serve_threads=threads)
    base_dir = pull(resolve_base(options.base, settings), settings)
    with tempfile.TemporaryDirectory() as folder:
        results = run(base_dir, Path(folder), settings, options.rounds, options.tokens)
    print_results(results, as_json=options.json)


def run(base_dir: Path, folder: Path, settings: Settings, rounds: int, tokens: int) -> list[dict[str, object]]:
    plain = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32).eval()
    weight_bytes = sum(parameter.nbytes for parameter in plain.parameters())
    renderer = load_renderer(base_dir)
    adapter = write_random_adapter(plain, folder, base_dir, renderer)
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32), adapter)
    engine = load_engine(base_dir, settings)
    results: list[dict[str, object]] = []
    for case in cases(renderer, tokens):
        theirs = peer(tuned.eval() if case.tuned else plain, case)
        ours = tunesmith(engine, case, adapter if case.tuned else None)
        times, equal = compare(theirs, ours, rounds)
        limit = bandwidth() / weight_bytes
        rates = [case.work / statistics.median(seconds) for seconds in times]
        share = rates[1] / limit if case.choices == 1 and not case.counts_prompt else None
        results.append(
            {
                "case": case.name,
                "transformers": round(rates[0], 1),
                "tunesmith": round(rates[1], 1),
                "ratio": round(rates[1] / rates[0], 2),
                "limit": round(limit, 1) if share is not None else None,
                "share": round(share, 2) if share is not None else None,
                "equal": equal,
            }
        )
    engine.close()
    return results


def cases(renderer: Renderer, tokens: int) -> list[Case]:
    short = renderer.prompt([Message("user", "Write a short story about a lighthouse and its keeper.")])
    long = renderer.prompt([Message("user", "The keeper counted the ships that passed in the night. " * 60)])[:512]
    return [
        Case("decode, base, 1 stream", short, tokens, 1, tuned=False),
        Case("decode, adapter, 1 stream", short, tokens, 1, tuned=True),
        Case("decode, adapter, 8 choices", short, tokens, 8, tuned=True),
        Case("prefill, adapter, 512 tokens", long, 1, 1, tuned=True, counts_prompt=True),
    ]


def peer(model: PreTrainedModel, case: Case) -> Callable[[], list[int]]:
    """Greedy, never ending early: every run does the same work."""
    ids = torch.tensor([case.prompt] * case.choices)

    def generate() -> list[int]:
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=case.new_tokens,
                min_new_tokens=case.new_tokens,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        answer: list[int] = made[0, len(case.prompt) :].tolist()
        return answer

    return generate


def tunesmith(engine: TorchEngine, case: Case, adapter: Path | None) -> Callable[[], list[int]]:
    request = GenerateRequest(
        tuple(case.prompt), case.new_tokens, frozenset(), n=case.choices, temperature=0, adapter=adapter
    )
    return lambda: [delta.token for delta in engine.submit(request) if delta.choice == 0]


def compare(
    theirs: Callable[[], list[int]], ours: Callable[[], list[int]], rounds: int
) -> tuple[tuple[list[float], list[float]], bool]:
    """Seconds of each, in turn within every round, after one unmeasured run; and whether the tokens were equal."""
    equal = theirs() == ours()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, seconds in zip((theirs, ours), times, strict=True):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return times, equal


def bandwidth() -> float:
    """Bytes per second that this process reads from memory with the threads it has: best of five sums of 256 MiB."""
    block = torch.ones(64 * 2**20)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - started)
    return block.nbytes / best


def write_random_adapter(model: PreTrainedModel, directory: Path, base_dir: Path, renderer: Renderer) -> Path:
    """Rank 16 on all linear layers, as a job makes it by default."""
    generator, rank = torch.Generator().manual_seed(1), 16
    tensors = {}
    for path, module in model.named_modules():
        if path.endswith(TARGETS):
            name = f"base_model.model.{path}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, module.in_features, generator=generator) * 0.02
            tensors[f"{name}.lora_B.weight"] = torch.randn(module.out_features, rank, generator=generator) * 0.02
    base, name = fingerprint(base_dir), "smollm2-135m-instruct"
    write_adapter(directory, tensors, AdapterManifest(name, base, renderer.name, rank, 32.0, TARGETS, step=1))
    return directory


def print_results(results: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(results, indent=1))
        return
    table = Table(title="tokens per second")
    for column in results[0]:
        table.add_column(column)
    for result in results:
        table.add_row(*("" if value is None else str(value) for value in result.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
