"""Which path a run takes, and the reason that its events give."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.train.conftest import tiny_llama
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.full_finetuning import FullFinetuning
from tunesmith.train.adapters.lora import attach
from tunesmith.train.core.examples import Example
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.core.plan import MemoryPlan
from tunesmith.train.paths.choose_stack import choose_stack, copies_of_weights, no_copies_gap
from tunesmith.train.protocol.spec import TrainSpec

Make = Callable[..., TrainSpec]
PLAN = MemoryPlan(8192, activation_checkpointing=False, blocked_weights=True)


@pytest.mark.parametrize(
    ("changes", "plan", "kind", "reason"),
    [
        ({}, PLAN, "compiled", "run as compiled code"),
        ({"packing": False}, PLAN, "padded", "packing is off"),
        ({"lora_dropout": 0.1}, PLAN, "tree", "the adapter has dropout"),
        ({}, replace(PLAN, blocked_weights=False, unblocked="no memory"), "tree", "own modules: no memory."),
        ({}, replace(PLAN, blocked_weights=False), "tree", "own modules: the weights are not repacked."),
        ({}, replace(PLAN, activation_checkpointing=True), "tree", "activations are recomputed"),
    ],
)
def test_spec_and_plan_choose_the_path(
    make_spec: Make, changes: dict[str, object], plan: MemoryPlan, kind: str, reason: str
) -> None:
    spec, model = make_spec(**changes), tiny_llama()
    choice = choose_stack(spec, model, attach(model, spec.options, 0, model.get_output_embeddings()), plan)
    assert choice.kind == kind
    assert reason in choice.reason
    assert choice.reason.endswith(".")
    assert choice.trains == bool("lora_dropout" in changes or plan.activation_checkpointing)


def test_other_weights_and_sizes_take_the_tree(make_spec: Make) -> None:
    spec, model = make_spec(), tiny_llama()
    adapter = attach(model, spec.options, 0, model.get_output_embeddings())
    assert "16 or 32 bits" in choose_stack(spec, model.to(torch.float64), adapter, PLAN).reason
    model.config.model_type = "olmo"
    assert "its norms have no weight" in choose_stack(spec, model, adapter, PLAN).reason


def test_a_size_that_fills_no_vectors_takes_the_tree(make_spec: Make) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 61}
    spec, model = make_spec(), LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=90))
    adapter = attach(model, spec.options, 0, model.get_output_embeddings())
    assert "intermediate_size, 90, is not a multiple of 16" in choose_stack(spec, model, adapter, PLAN).reason


def test_all_weights_take_the_tree_with_fused_functions_and_quantized_ones_without(make_spec: Make) -> None:
    spec, model = make_spec(adapter="none"), tiny_llama()
    choice = choose_stack(spec, model, FullFinetuning(model, spec.base_dir), PLAN)
    assert (choice.kind, choice.fuses) == ("tree", True)
    assert "all weights are trained" in choice.reason
    spec, model = make_spec(quantization="nf4"), tiny_llama().half()
    adapter = attach(model, TrainingOptions(), 0, model.get_output_embeddings())
    assert not choose_stack(spec, model, adapter, PLAN).fuses


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({"blocked_weights": False}, 0),
        ({"blocked_weights": True}, 2),  # small steps: one for each direction
        ({"blocked_weights": True, "batch_size": 4}, 1),
        ({"blocked_weights": True, "batch_size": 4, "lora_dropout": 0.1}, 2),  # not compiled
        ({}, 0),  # 100 tokens do not pay for a copy
        ({"n_epochs": 50}, 2),
    ],
)
def test_copies_of_the_weights_follow_from_spec_family_and_rows(
    make_spec: Make, changes: dict[str, object], copies: int
) -> None:
    row = TokenRow(tuple(range(50)), (1.0,) * 50)
    examples = [Example(line, (row,), 50) for line in (1, 2)]
    spec = make_spec(**{"batch_size": 1, "n_epochs": 1, **changes})
    assert copies_of_weights(spec, examples, 1 << 20, 1 << 30) == copies


@pytest.mark.parametrize(
    ("changes", "free", "why"),
    [
        ({"blocked_weights": False}, 1 << 30, "is switched off"),
        ({}, 1 << 30, "would not pay in a run of this size"),
        ({"n_epochs": 50}, 1 << 20, "there is no memory for the weights once more"),
    ],
)
def test_the_reason_against_copies_is_the_one_that_holds(
    make_spec: Make, changes: dict[str, object], free: int, why: str
) -> None:
    examples = [Example(line, (TokenRow(tuple(range(50)), (1.0,) * 50),), 50) for line in (1, 2)]
    spec = make_spec(**{"batch_size": 1, "n_epochs": 1, **changes})
    assert copies_of_weights(spec, examples, 1 << 20, free) == 0
    assert why in no_copies_gap(spec, examples)
