"""Compares greedy texts with those of transformers and PEFT.

    python bench/serving/faithful.py [--prompts 200] [--tokens 16] [--data FOLDER] [--adapter DIR ...] [--base NAME]

The reference is `generate` of transformers with PEFT in float32, one prompt at a time. The engine answers each prompt
alone and then all at once, in mixed and ragged batches, with float32 and with float16 weights. Prints how many
texts are equal, and for the others how close the two likeliest tokens were where they diverge, in nats; for float16
also the agreement and the change of likelihood on the reference's own texts. Prompts come from the last user
turns of `*.jsonl` in FOLDER, else from rows made from a seed; adapters are random ones of rank 16 unless given.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.directory import fingerprint, pull
from tunesmith.models.registry import resolve_base
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.row import ChatRow, read_rows
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.local.engine import LocalEngine, load_engine
from tunesmith.serve.local.fp16_check import compare
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.runner import Runner
from tunesmith.settings import get_settings
from tunesmith.system.cpu import cpu_count

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.rows import write_rows

ADAPTERS = 5
LONGEST = 400  # tokens of a prompt
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Question:
    prompt: tuple[int, ...]
    adapter: int


def main() -> None:
    options = _options()
    settings = get_settings()
    base_dir = pull(resolve_base(options.base, settings), settings)
    renderer = load_renderer(base_dir)
    adapters = options.adapter or random_adapters(base_dir, renderer, Path(tempfile.mkdtemp()))
    prompts = list(_prompts(renderer, options.data, options.prompts))
    questions = [Question(prompt, place % len(adapters)) for place, prompt in enumerate(prompts)]
    print(f"{len(questions)} prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens", flush=True)
    reference = Reference(base_dir, adapters)
    expected = [reference.answer(question, options.tokens) for question in questions]
    table = Table("weights", "batch", "equal texts", "nats between the two likeliest where they part")
    for width in ("float32", "float16"):
        engine = load_engine(base_dir, settings.model_copy(update={"serve_weights": width}))
        for name, answers in (
            ("alone", [one for question in questions for one in ask(engine, [question], adapters, options.tokens)]),
            ("mixed", ask(engine, questions, adapters, options.tokens)),
        ):
            gaps = [
                reference.gap(question, wanted, made)
                for question, wanted, made in zip(questions, expected, answers, strict=True)
                if wanted != made
            ]
            table.add_row(width, name, f"{len(questions) - len(gaps)} of {len(questions)}", _listed(gaps))
        engine.close()
        engine.join()
    Console().print(table)
    runner, _ = load_runner(base_dir, settings.model_copy(update={"serve_weights": "float16"}))
    agreement, surprise = teacher_forced(reference, runner, questions, expected, adapters)
    print(f"float16 on the reference's texts: {agreement:.2%} of the likeliest tokens, {surprise:+.6f} nats a token")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--adapter", type=Path, nargs="*")
    return parser.parse_args()


class Reference:
    """transformers and PEFT in float32."""

    def __init__(self, base_dir: Path, adapters: Sequence[Path]) -> None:
        model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32).eval()
        self.model = PeftModel.from_pretrained(model, adapters[0], adapter_name="0")
        for place, adapter in enumerate(adapters[1:], 1):
            self.model.load_adapter(adapter, adapter_name=str(place))
        self.model.eval()

    @torch.inference_mode()
    def answer(self, question: Question, tokens: int) -> list[int]:
        self.model.set_adapter(str(question.adapter))
        ids = torch.tensor([question.prompt])
        made = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        answer: list[int] = made[0, len(question.prompt) :].tolist()
        return answer

    @torch.inference_mode()
    def logits(self, question: Question, answer: Sequence[int]) -> torch.Tensor:
        """[answer, V]: each token's, given the prompt and those before it."""
        self.model.set_adapter(str(question.adapter))
        ids = torch.tensor([[*question.prompt, *answer]])
        logits: torch.Tensor = self.model(ids).logits[0, len(question.prompt) - 1 : -1].float()
        return logits

    def gap(self, question: Question, wanted: list[int], made: list[int]) -> float:
        """The gap between the two likeliest tokens where the texts first differ, in nats."""
        place = next(place for place, (one, other) in enumerate(zip(wanted, made, strict=True)) if one != other)
        best = torch.log_softmax(self.logits(question, wanted)[place], -1).topk(2).values
        return float(best[0] - best[1])


def ask(engine: LocalEngine, questions: Sequence[Question], adapters: Sequence[Path], tokens: int) -> list[list[int]]:
    """All at once. Drafts and the prefix cache are as they are in service."""
    under_way = [
        engine.submit(
            GenerateRequest(question.prompt, tokens, frozenset(), temperature=0, adapter=adapters[question.adapter])
        )
        for question in questions
    ]
    return [[delta.token for delta in generation] for generation in under_way]


def teacher_forced(
    reference: Reference, runner: Runner, questions: Sequence[Question], answers: Sequence[list[int]], paths: list[Path]
) -> tuple[float, float]:
    """Agreement and change of likelihood, in nats per token, on the reference's texts."""
    adapters = [runner.read_adapter(path) for path in paths]
    found = []
    for question, answer in zip(questions, answers, strict=True):
        ids = (*question.prompt, *answer)
        ours = runner.forward([SequenceChunk(0, 0, ids[:-1], adapters[question.adapter], len(answer))], cpu_count())
        theirs = reference.logits(question, answer).numpy()
        found.append(compare(theirs, ours, [question.prompt[-1], *answer[:-1]]))
    count = len(found)
    return sum(one.agreement for one in found) / count, sum(one.surprise for one in found) / count


def random_adapters(base_dir: Path, renderer: Renderer, folder: Path) -> list[Path]:
    """Rank 16 on all linear layers, as a job makes it by default."""
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    linears = {path: module for path, module in model.named_modules() if path.endswith(TARGETS)}
    for place in range(ADAPTERS):
        draw, tensors = torch.Generator().manual_seed(place), {}
        for path, module in linears.items():
            name = f"base_model.model.{path}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(16, module.in_features, generator=draw) * 0.02
            tensors[f"{name}.lora_B.weight"] = torch.randn(module.out_features, 16, generator=draw) * 0.02
        manifest = AdapterManifest("base", fingerprint(base_dir), renderer.name, 16, 32.0, TARGETS, step=1)
        write_adapter(folder / str(place), tensors, manifest)
    return [folder / str(place) for place in range(ADAPTERS)]


def _prompts(renderer: Renderer, data: Path | None, count: int) -> Iterator[tuple[int, ...]]:
    """The rows of all files in turn, each up to its last answer."""
    folder = data
    if folder is None:
        folder = Path(tempfile.mkdtemp())
        write_rows(folder, rows=count)
    files = [[row for _, row in read_rows(path) if isinstance(row, ChatRow)] for path in sorted(folder.glob("*.jsonl"))]
    rows = [rows[place] for place in range(count) for rows in files if place < len(rows)]
    for row in rows[:count]:
        yield tuple(renderer.prompt(row.messages[:-1], row.tools))[-LONGEST:]


def _listed(gaps: Sequence[float]) -> str:
    return ", ".join(f"{gap:.4f}" for gap in sorted(gaps)[-8:]) or "-"


if __name__ == "__main__":
    main()
