"""One family's row in docs/families.md: each cell is what its tiny model did here, and it was compared.

training    every path has the gradient of the padded one, and that one the loss that transformers computes row by row
serving     logits to 1e-4 of transformers' with and without an adapter, read in pieces, and the same greedy tokens
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tests.families.zoo import VOCABULARY, Tiny, build, write
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.families.lora_layers import LoraShare, lora_share
from tunesmith.families.support import unsupported
from tunesmith.models.adapters import AdapterManifest
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.local.engine import EngineOptions, LocalEngine
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.runner import AnyAdapter, Runner
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.disk_room import DiskRoom
from tunesmith.train.core.examples import Example
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.core.losses import supervised_loss
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Scorer
from tunesmith.train.prepare import PreparedModel, prepare
from tunesmith.train.protocol.events import Event, Log
from tunesmith.train.protocol.spec import TrainSpec

Kind = Literal["compiled", "tree", "padded"]
PROMPT = tuple(range(3, 23))
ROWS = [TokenRow((*PROMPT, *range(30, 30 + n), n), (0.0,) * 22 + (1.0,) * (n - 1)) for n in (3, 7, 12)]
EXAMPLES = [Example(line, (row,), len(row.ids)) for line, row in enumerate(ROWS)]
TEXT = tuple(3 + (7 * place * place) % (VOCABULARY - 3) for place in range(48))
PIECES = ((0, 17), (17, 40), (40, 41), (41, 48))  # a prompt read in two steps, a token, and some more
NEW = 10
GREEDY = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
OPTIONS = TrainingOptions(lora_rank=4)


@dataclass(frozen=True, slots=True)
class Cells:
    """What one family's tiny model did."""

    trains: tuple[Kind, ...]  # the paths that were taken, best first
    serves_compiled: bool
    share: LoraShare


def try_family(tiny: Tiny, folder: Path) -> Cells:
    """Trains and serves the family; AssertionError where anything differs from transformers."""
    base, whole = write(tiny, folder / "base"), build(tiny)
    assert unsupported(json.loads((base / "config.json").read_text("utf-8"))) is None
    trained = [train(base, folder, **way) for way in ({}, {"blocked_weights": False}, {"packing": False})]
    expected, reference = trained[-1]
    for _, run in trained[:-1]:
        difference = float((run.gradient - reference.gradient).abs().max())
        assert difference < 1e-4 * float(reference.gradient.abs().max())
    assert abs(reference.loss - row_loss(whole)) < 1e-5, (reference.loss, row_loss(whole))
    runner, _ = load_runner(base, Settings(data_dir=folder, serve_weights="float32"))
    compare_logits(runner, whole, reference, folder / "adapter")
    compare_tokens(runner, whole)
    assert expected == "padded"
    taken = dict.fromkeys(kind for kind, _ in trained)
    return Cells(tuple(taken), isinstance(runner, CompiledRunner), lora_share(base, ["all-linear"]))


@dataclass(frozen=True, slots=True)
class Trained:
    """A base with an adapter of random values."""

    loss: float  # while the adapter did nothing
    gradient: Tensor
    adapter: Adapter
    model: nn.Module | None  # of the padded path


def train(base: Path, folder: Path, **way: object) -> tuple[Kind, Trained]:
    """The path that a run takes, with its loss and gradient."""
    values: dict[str, object] = {
        "job_id": "ftjob-test", "base_name": "tiny", "base_dir": base, "training_file": folder / "unread.jsonl",
        "output_dir": folder / "out", "n_epochs": 1, "batch_size": 3, "seed": 1, "threads": 1, "blocked_weights": True,
        "options": OPTIONS,
    }  # fmt: skip
    events: list[Event] = []
    plan = folder / f"plan-{len([*folder.glob('plan-*')])}.json"
    room = DiskRoom(folder / "out", events.append, Interrupt())
    prepared = prepare(TrainSpec(**{**values, **way}), EXAMPLES, plan, room)  # type: ignore[arg-type]
    adapter = prepared.trainable
    assert isinstance(adapter, Adapter)
    loss, _ = loss_and_gradient(prepared.scorer, adapter)
    with torch.no_grad():
        adapter.flat.copy_(0.05 * torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(1)))
    model = prepared.scorer._model if isinstance(prepared.scorer, PaddedScorer) else None
    return taken_path(prepared, events), Trained(loss, loss_and_gradient(prepared.scorer, adapter)[1], adapter, model)


def taken_path(prepared: PreparedModel, events: Sequence[Event]) -> Kind:
    """By the scorer and what the events say."""
    if isinstance(prepared.scorer, PaddedScorer):
        return "padded"
    said = [event.message for event in events if isinstance(event, Log)]
    return "compiled" if "The layers run as compiled code." in said else "tree"


def loss_and_gradient(scorer: Scorer, adapter: Adapter) -> tuple[float, Tensor]:
    adapter.grad.zero_()
    scores = scorer.score(ROWS)
    loss = supervised_loss(scores.logprobs, scores.weights, float(scores.weights.sum()))
    loss.backward()
    return float(loss.detach()), adapter.grad.clone()


def row_loss(whole: PreTrainedModel) -> float:
    """The mean loss as transformers computes it, a row at a time and so without padding."""
    losses = []
    for row in ROWS:
        labels = [token if weight else -100 for token, weight in zip(row.ids, row.weights, strict=True)]
        with torch.no_grad():
            logits = whole(input_ids=torch.tensor([row.ids])).logits[0, :-1].float()
        targets = torch.tensor(labels[1:])
        losses.append(nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum"))
    return float(sum(losses)) / sum(sum(row.weights) for row in ROWS)


def compare_logits(runner: Runner, whole: PreTrainedModel, trained: Trained, folder: Path) -> None:
    """Of a text read in pieces, without an adapter and with the trained one."""
    rank, alpha = OPTIONS.lora_rank, OPTIONS.lora_alpha
    manifest = AdapterManifest("tiny", "x", "y", rank, alpha, trained.adapter.target_modules, step=1)
    trained.adapter.write(folder, manifest)
    adapter = runner.read_adapter(folder)
    assert trained.model is not None
    ids = torch.tensor([TEXT])
    with torch.inference_mode():
        for expected, used, slot in ((whole, None, 0), (trained.model, adapter, 1)):
            found = [runner.forward([piece(slot, start, stop, used)]) for start, stop in PIECES]
            logits = torch.cat([*map(torch.from_numpy, found)])
            torch.testing.assert_close(logits, expected(input_ids=ids).logits[0].float(), rtol=0, atol=1e-4)
            runner.clear(slot)


def piece(slot: int, start: int, stop: int, adapter: AnyAdapter | None) -> SequenceChunk[AnyAdapter]:
    return SequenceChunk(slot, start, TEXT[start:stop], adapter, stop - start)


def compare_tokens(runner: Runner, whole: PreTrainedModel) -> None:
    """Greedy answers to several prompts at once, one of them with the beginning of another."""
    options = EngineOptions(threads=1, running=3, waiting=9, adapter_bytes=10**8, cache_bytes=10**8)
    engine = LocalEngine(runner, options, fingerprint="x")
    prompts = [TEXT[:40], TEXT[5:48], TEXT[:20]]
    under_way = [engine.submit(GenerateRequest(prompt, NEW, frozenset(), temperature=0)) for prompt in prompts]
    answers = [[delta.token for delta in generation] for generation in under_way]
    engine.close()
    engine.join(5)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = whole.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), **GREEDY
        )
        assert answer == ids[0, len(prompt) :].tolist()
