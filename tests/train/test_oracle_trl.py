"""TRL as an oracle: its trainers, collators and loss code on the same rows, adapter and base as ours.

Rows differ in length, so TRL pads them; most begin alike, so ours are stored once.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.render.bases import VOCABULARY as TOKENS
from torch import Tensor

from tunesmith.families.peft_names import PREFIX
from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.weights import load_model
from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import Adapter, attach
from tunesmith.train.core.examples import Batch, Example
from tunesmith.train.core.packing import TokenRow, pack
from tunesmith.train.objective import Objective, Preference, Supervised, answer_logprobs
from tunesmith.train.paths.accelerate import accelerate
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Scorer, TreeScorer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Trainer

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's, datasets' and accelerate's own

LORA = TrainingOptions(lora_rank=4, lora_alpha=8.0)
BETA = 0.3
BUDGETS = (10_000, 90)  # one micro-batch; several


@dataclass(frozen=True, slots=True)
class Ours:
    adapter: Adapter
    scorers: tuple[Scorer, Scorer]  # token tree, padded


@pytest.fixture(scope="module")
def ours(tiny_base: Path) -> Ours:
    """An adapter that has moved: with B at zero, DPO would compare the base with itself."""
    model = load_model(tiny_base, torch.float64)
    adapter = attach(model, LORA, seed=1, head=model.get_output_embeddings())
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_b.normal_(std=0.2, generator=generator)
    accelerate(model)
    return Ours(adapter, (TreeScorer(model), PaddedScorer(model)))


@pytest.fixture(scope="module")
def theirs(ours: Ours, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> "PeftModel":
    """The same adapter, through our files and PEFT, on transformers' own model."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("oracle") / "adapter"
    manifest = AdapterManifest("tiny", "", "", LORA.lora_rank, LORA.lora_alpha, ours.adapter.target_modules, 0)
    write_adapter(folder, ours.adapter.tensors(), manifest)
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float64)
    return PeftModel.from_pretrained(base, folder, is_trainable=True).double()


def words(draw: random.Random, count: int) -> tuple[int, ...]:
    return tuple(draw.randrange(100, TOKENS) for _ in range(count))


def chat_rows() -> list[TokenRow]:
    """Five rows with one prompt, two of which share a turn too, and one row of its own; each learned in two places."""
    draw = random.Random(0)
    prompt, turn = words(draw, 30), words(draw, 12)
    rows = []
    for index, start in enumerate([prompt, prompt, prompt, (*prompt, *turn), (*prompt, *turn), ()]):
        first, middle, last = words(draw, 5 + 3 * index), words(draw, 9), words(draw, 4 + 5 * index)
        ids = (*start, *first, *middle, *last)
        learned = [(0.0, len(start)), (1.0, len(first)), (0.0, len(middle)), (1.0, len(last))]
        weights = tuple(weight for weight, count in learned for _ in range(count))
        rows.append(TokenRow(ids, (0.0, *weights[1:])))
    return rows


def pairs() -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Prompt, preferred and other answer: of unlike lengths, two with the same prompt."""
    draw = random.Random(1)
    prompts = [words(draw, 25), words(draw, 11)]
    prompts = [prompts[0], prompts[0], prompts[1]]
    return [(prompt, words(draw, 6 + 9 * n), words(draw, 17 - 4 * n)) for n, prompt in enumerate(prompts)]


def options(folder: Path) -> dict[str, object]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "use_cpu": True,
        "bf16": False,
        "max_length": None,
        "report_to": "none",
        "gradient_checkpointing": False,
    }


def loss_and_gradient(
    trainer: "Trainer", model: "PeftModel", rows: Sequence[Mapping[str, object]]
) -> tuple[float, dict[str, Tensor]]:
    """Of TRL's own loss on the batch that its own collator makes of the rows."""
    model.train()
    model.zero_grad()
    loss = trainer.compute_loss(model, trainer.data_collator(rows))
    loss.backward()
    gradients = {
        name.replace(".default", ""): parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return float(loss.detach()), gradients


def agree(ours: Ours, objectives: Sequence[Objective], batch: Batch, loss: float, gradients: dict[str, Tensor]) -> None:
    assert len(gradients) == 2 * len(ours.adapter.layers)
    for objective in objectives:
        ours.adapter.grad.zero_()
        assert objective.backward(batch).loss == pytest.approx(loss, rel=1e-5)
        for path, layer in ours.adapter.layers.items():
            for name, parameter in (("lora_A", layer.lora_a), ("lora_B", layer.lora_b)):
                expected = gradients[f"{PREFIX}{path}.{name}.weight"]
                torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_supervised_loss_and_gradient_are_trls(
    ours: Ours, theirs: "PeftModel", tiny_base: Path, tmp_path: Path
) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = chat_rows()
    assert pack(rows).length < sum(len(row.ids) for row in rows) - 100  # there is something to share
    trainer = SFTTrainer(
        model=theirs,
        args=SFTConfig(**options(tmp_path), completion_only_loss=True),
        train_dataset=Dataset.from_list(
            [{"input_ids": row.ids, "completion_mask": [int(weight) for weight in row.weights]} for row in rows]
        ),
        processing_class=AutoTokenizer.from_pretrained(tiny_base),
    )
    loss, gradients = loss_and_gradient(trainer, theirs, [*trainer.train_dataset])
    batch = Batch(1, 1, False, tuple(Example(line, (row,), len(row.ids)) for line, row in enumerate(rows, 1)))
    objectives = [Supervised(scorer, budget) for scorer in ours.scorers for budget in BUDGETS]
    agree(ours, objectives, batch, loss, gradients)


def test_preference_loss_and_gradient_are_trls(
    ours: Ours, theirs: "PeftModel", tiny_base: Path, tmp_path: Path
) -> None:
    """The reference is the base with the adapter off, here as there."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    dataset = [{"prompt": "a", "chosen": "b", "rejected": "c"}]  # the tokens below are the measured ones
    trainer = DPOTrainer(
        model=theirs,
        args=DPOConfig(**options(tmp_path), beta=BETA, loss_type="sigmoid"),
        train_dataset=Dataset.from_list(dataset),
        processing_class=AutoTokenizer.from_pretrained(tiny_base),
    )
    if "ref" in theirs.peft_config:  # TRL took the moved adapter as the reference; ours starts from the base
        theirs.delete_adapter("ref")
    tokens = [
        {"prompt_ids": [*prompt], "chosen_ids": [*chosen], "rejected_ids": [*rejected]}
        for prompt, chosen, rejected in pairs()
    ]
    loss, gradients = loss_and_gradient(trainer, theirs, tokens)
    examples = [
        Example(line, tuple(answer_row(prompt, answer) for answer in answers), 0)
        for line, (prompt, *answers) in enumerate(pairs(), 1)
    ]
    for scorer in ours.scorers:
        with ours.adapter.off():
            references = answer_logprobs(scorer, examples, 10_000)
        objectives = [Preference(scorer, budget, BETA, references, {}) for budget in BUDGETS]
        agree(ours, objectives, Batch(1, 1, False, tuple(examples)), loss, gradients)


def answer_row(prompt: tuple[int, ...], answer: tuple[int, ...]) -> TokenRow:
    return TokenRow((*prompt, *answer), (0.0,) * len(prompt) + (1.0,) * len(answer))
