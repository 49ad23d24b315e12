"""What a GPU would see of a step, by meta tensors, which have a device and no values: nothing has to run on one.

Whatever is made on the processor and used beside them is found, and so is each value that is read back, for which the
processor would wait. Fake tensors of the device "cuda" cannot be used where torch is built without it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from tests.train.conftest import tiny_llama
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import Adapter, attach
from tunesmith.train.core.examples import Batch, Example
from tunesmith.train.core.losses import supervised_loss
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.objective import Supervised
from tunesmith.train.paths.layer_stack import TorchLayers
from tunesmith.train.paths.scoring import TreeScorer

SYSTEM = tuple(range(3, 23))
ROWS = [TokenRow((*SYSTEM, *range(30, 40 + n)), (0.0,) * 20 + (1.0,) * (10 + n)) for n in range(4)]
COPIES = ("aten._to_copy.default", "aten.copy_.default", "aten.lift_fresh.default")
Make = Callable[[], PreTrainedModel]


def gemma2() -> PreTrainedModel:
    """A window in every second layer, and scores with a soft cap."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = Gemma2Config(**sizes, num_key_value_heads=2, head_dim=16, vocab_size=61, sliding_window=16)
    model: PreTrainedModel = Gemma2ForCausalLM(config).eval()
    return model


class Watched(TorchDispatchMode):
    """Sees every call of a kernel: its name, and whether it mixes devices."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.mixed: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and one.dim()]
        name = str(func)
        self.names.append(name)
        if len({one.device.type for one in tensors}) > 1 and name not in COPIES:
            self.mixed.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def on_a_device(make: Make) -> Iterator[tuple[PreTrainedModel, Adapter, Watched]]:
    model = make().bfloat16().to("meta")
    adapter = attach(model, TrainingOptions(lora_rank=4), 0, model.get_output_embeddings())
    with Watched() as watched:
        yield model, adapter, watched


@pytest.mark.parametrize("make", [tiny_llama, gemma2])
def test_a_step_stays_on_its_device_and_makes_a_mask_once_a_window(make: Make) -> None:
    with on_a_device(make) as (model, adapter, watched):
        scores = TreeScorer(model).score(ROWS)
        loss = supervised_loss(scores.logprobs, scores.weights, 46.0)
        loss.backward()
    assert (loss.device.type, loss.dtype, adapter.grad.device.type) == ("meta", torch.float32, "meta")
    assert watched.mixed == []
    windows = 1 if make is tiny_llama else 2
    assert watched.names.count("aten.bitwise_and.Tensor") == windows  # two halves of a mask, for however many layers
    assert watched.names.count("aten.logical_and_.default") == windows - 1
    assert "aten.tril.default" not in watched.names
    assert not [name for name in watched.names if "_local_scalar" in name]


def test_attention_without_a_mask_is_a_call_for_each_depth_and_layer() -> None:
    with on_a_device(tiny_llama) as (model, _, watched), torch.no_grad():
        TreeScorer(model, TorchLayers(model, varlen=True)).score(ROWS)
    assert watched.mixed == []
    assert watched.names.count("aten._flash_attention_forward.default") == 2 * 2  # rows below a system message
    assert "aten.bitwise_and.Tensor" not in watched.names


def test_micro_batches_are_computed_before_anything_is_read() -> None:
    examples = tuple(Example(line, (row,), len(row.ids)) for line, row in enumerate(ROWS))
    with on_a_device(tiny_llama) as (model, _, watched):
        objective = Supervised(TreeScorer(model), 30, enough_tokens=30)
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):  # the loss of the step, at its end
            objective.backward(Batch(1, 1, True, examples))
    assert watched.names.count("aten.embedding.default") == len(ROWS)
    assert watched.mixed == []
