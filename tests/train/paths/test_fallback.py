"""A path that fails while it is built or tried is left for the padded one, and leaves nothing behind in the process."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import pytest
import torch
from tests.families.zoo import ZOO, write
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.glm4_moe import modeling_glm4_moe
from transformers.models.llama import modeling_llama

from tunesmith.errors import InvalidRequest
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.disk_room import DiskRoom
from tunesmith.train.core.examples import Example
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.accelerate import restore
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.prepare import PreparedModel, prepare
from tunesmith.train.protocol.events import Event, Log
from tunesmith.train.protocol.spec import TrainSpec

Make = Callable[..., TrainSpec]
ROWS = [TokenRow((*range(3, 20), n), (0.0,) * 12 + (1.0,) * 6) for n in (30, 31)]
EXAMPLES = [Example(line, (row,), len(row.ids)) for line, row in enumerate(ROWS)]
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61}


class FragileConfig(LlamaConfig):  # type: ignore[misc]
    model_type = "fragile"


class FragileModel(LlamaModel):  # type: ignore[misc]
    """A model that reads the tree of tokens as something else, as an unknown family might."""

    def forward(self, *args: Tensor, **options: object) -> BaseModelOutputWithPast:
        if "tree" in options:
            raise KeyError("block_mask is not\n  in the tree")
        output: BaseModelOutputWithPast = super().forward(*args, **options)
        return output


class FragileForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
    config_class = FragileConfig
    living: ClassVar[WeakSet[LlamaForCausalLM]] = WeakSet()
    met: ClassVar[list[int]] = []  # how many others there were when each was made

    def __init__(self, config: FragileConfig) -> None:
        self.met.append(len(self.living))
        super().__init__(config)
        self.living.add(self)
        self.model = FragileModel(config)
        self.post_init()


AutoConfig.register("fragile", FragileConfig)
AutoModelForCausalLM.register(FragileConfig, FragileForCausalLM)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _own_functions() -> Iterator[None]:
    restore()  # a run of an earlier test may have replaced them for its process
    yield
    restore()


def prepared(spec: TrainSpec, folder: Path) -> tuple[PreparedModel, list[Log]]:
    events: list[Event] = []
    room = DiskRoom(spec.output_dir, events.append, Interrupt())
    model = prepare(spec, EXAMPLES, folder / "plan.json", room)
    return model, [event for event in events if isinstance(event, Log)]


def test_any_exception_of_the_fast_path_is_told_and_the_run_is_padded(make_spec: Make, tmp_path: Path) -> None:
    own = modeling_llama.apply_rotary_pos_emb
    FragileForCausalLM(FragileConfig(**SIZES)).save_pretrained(tmp_path / "base")
    gc.collect()
    FragileForCausalLM.met.clear()
    model, logs = prepared(make_spec(base_dir=tmp_path / "base"), tmp_path)
    assert isinstance(model.scorer, PaddedScorer)
    assert FragileForCausalLM.met == [0, 0]  # the first base is gone before the second is loaded
    warned = [log.message for log in logs if log.level == "warn"]
    assert warned == [
        "This base takes the padded path, slower and with the same result: "
        "KeyError: 'block_mask is not\\n in the tree'."
    ]
    model.scorer.score(ROWS).logprobs.sum().backward()
    assert isinstance(model.trainable, Adapter)
    assert bool(model.trainable.grad.abs().sum() > 0)
    assert modeling_llama.apply_rotary_pos_emb is own


def test_an_error_that_is_the_users_is_no_reason_to_fall_back(make_spec: Make, tmp_path: Path) -> None:
    write(ZOO["llama"], tmp_path / "base")
    with pytest.raises(InvalidRequest, match="blocks of this base have no such layer"):
        prepared(make_spec(base_dir=tmp_path / "base", lora_targets="query_proj"), tmp_path)


def test_a_part_of_a_head_is_rotated_by_the_familys_own_function(make_spec: Make, tmp_path: Path) -> None:
    """GLM 4.5 rotates half of each head; its function agrees with ours on whole heads, and replaces it there alone."""
    own = modeling_glm4_moe.apply_rotary_pos_emb
    write(ZOO["glm4_moe"], tmp_path / "base")
    model, logs = prepared(make_spec(base_dir=tmp_path / "base"), tmp_path)
    assert not isinstance(model.scorer, PaddedScorer)
    assert not [log for log in logs if log.level == "warn"]
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 4, 5, 16, generator=draw), torch.randn(1, 2, 5, 16, generator=draw)
    angles = torch.randn(1, 5, 4, generator=draw).repeat(1, 1, 2)
    expected = own(q, k, angles.cos(), angles.sin())
    torch.testing.assert_close(modeling_glm4_moe.apply_rotary_pos_emb(q, k, angles.cos(), angles.sin()), expected)
    restore()
    assert modeling_glm4_moe.apply_rotary_pos_emb is own
