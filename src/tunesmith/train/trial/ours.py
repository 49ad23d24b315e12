"""Our own path on one model: speed, memory, the loss, and a resumed run."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import Adapter, attach
from tunesmith.train.core.batches import Batch
from tunesmith.train.core.device import Device, peak_memory
from tunesmith.train.core.optimizer import AdamW
from tunesmith.train.core.packing import added_tokens
from tunesmith.train.core.plan import make_plan
from tunesmith.train.objective import Supervised
from tunesmith.train.paths.accelerate import accelerate
from tunesmith.train.paths.choose_attention import varlen_gap
from tunesmith.train.paths.flops import Work
from tunesmith.train.paths.layer_stack import TorchLayers
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Scorer, TreeScorer
from tunesmith.train.trial.shapes import Shape, batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RATE = 1e-4
PADDED_TOKENS = 2048  # of padded rows at once: their logits exist whole
Measures = dict[str, float | bool | str]


@dataclass(slots=True)
class Tuned:
    """A model with its adapter, objective and optimizer."""

    model: "PreTrainedModel"
    adapter: Adapter
    objective: Supervised
    optimizer: AdamW
    work: Work
    device: Device

    def step(self, rows: Batch) -> float:
        """One optimizer step; its loss."""
        self.adapter.grad.zero_()
        torch.manual_seed(rows.step)
        result = self.objective.backward(rows)
        self.optimizer.step(RATE, self.optimizer.norm(), 1.0)
        return result.loss

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {name: one.clone() for name, one in {"adapter": self.adapter.flat, **self.optimizer.state()}.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        with torch.no_grad():
            self.adapter.flat.copy_(state["adapter"])
        self.optimizer.load(state)


def tuned(model: "PreTrainedModel", device: Device, *, padded: bool = False) -> Tuned:
    """The model with a LoRA of rank 16, on the token tree or on padded rows."""
    options = TrainingOptions()
    adapter = attach(model, options, 0, model.get_output_embeddings())
    work = Work.of(model, adapter)
    if padded:
        objective = Supervised(PaddedScorer(model), PADDED_TOKENS, enough_tokens=PADDED_TOKENS)
    else:
        accelerate(model)
        plan = make_plan(model.config.get_text_config(), device.dtype.itemsize, 1024, device.free_memory())
        varlen = device.is_gpu and varlen_gap(model) is None
        scorer, most = TreeScorer(model, TorchLayers(model, varlen=varlen)), plan.micro_batch_tokens
        objective = Supervised(scorer, most, enough_tokens=most)
    return Tuned(model, adapter, objective, AdamW(adapter.flat, adapter.grad, 0.0), work, device)


def speed(one: Tuned, shape: Shape, peak_flops: float, seconds: float) -> Measures:
    """Tokens a second, share of the peak and memory, in about `seconds`."""
    rows = batch(shape, one.model.config.get_text_config().vocab_size)
    if one.device.is_gpu:
        torch.cuda.reset_peak_memory_stats(one.device.name)
    one.step(rows)  # kernels are chosen and memory is taken
    began, steps = time.perf_counter(), 0
    while steps < 2 or (steps < 20 and time.perf_counter() - began < seconds):
        one.step(rows)
        steps += 1
    taken = (time.perf_counter() - began) / steps
    one.adapter.grad.zero_()
    computed = one.objective.backward(rows).computed
    return {
        "tokens/s": rows.tokens / taken,
        "distinct tokens/s": distinct(rows) / taken,
        "share of peak": one.work.flops(computed) / taken / peak_flops,
        "peak GB": peak_memory(one.adapter.flat.device) / 1e9,
        "at once": float(one.objective.micro_batch_tokens),
    }


def distinct(rows: Batch) -> int:
    """Tokens of the batch with shared beginnings once."""
    ordered = sorted((row for example in rows.examples for row in example.rows), key=lambda row: row.ids)
    return added_tokens((), ordered)


def against_float32(wide: "PreTrainedModel", dtype: torch.dtype, shape: Shape) -> Measures:
    """The mean loss of a few rows in float32, and how far `dtype` is from it.

    On either path. Leaves the model in `dtype`.
    """
    few = batch(shape, wide.config.get_text_config().vocab_size).examples[:4]
    rows = [row for example in few for row in example.rows]

    def loss(scorer: Scorer) -> float:
        with torch.no_grad():
            return -float(scorer.score(rows).logprobs.mean())

    expected = loss(PaddedScorer(wide))
    narrow = wide.to(dtype)
    return {
        "loss": expected,
        "tree - float32": loss(TreeScorer(narrow)) - expected,
        "padded - float32": loss(PaddedScorer(narrow)) - expected,
    }


def resume(one: Tuned, shape: Shape) -> Measures:
    """Four steps, the same again, and two with two more after a restart."""
    vocabulary = one.model.config.get_text_config().vocab_size
    begun = one.state()

    def train(first: int, last: int) -> dict[str, Tensor]:
        for step in range(first, last + 1):
            one.step(batch(shape, vocabulary, step))
        return one.state()

    whole = train(1, 4)["adapter"]
    one.restore(begun)
    again = train(1, 4)["adapter"]
    one.restore(begun)
    half = train(1, 2)
    one.restore(begun)
    one.restore(half)
    resumed = train(3, 4)["adapter"]
    return {
        "equal bits again": torch.equal(whole, again),
        "equal bits resumed": torch.equal(whole, resumed),
        "largest difference": float((whole - resumed).abs().max()),
    }
