"""The tables that compiled layers read: where weights, adapter and what a step keeps stand in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunesmith.kernels.job import COUNTER_BYTES
from tunesmith.kernels.train_job import KEY_ROWS, OUT_BLOCK, QUERY_TOKENS
from tunesmith.kernels.vectors import LANES
from tunesmith.models.pages import Slab, give_back
from tunesmith.models.panels import pack, pack_back, pack_bias, whole_panels
from tunesmith.train.lora import LoraLinear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Records: TypeAlias = NDArray[numpy.void]
FLOAT = 4
GROUPS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Linears that read the same input, and the modules that stand in their places."""

    linears: tuple[nn.Linear, ...]
    owners: tuple[nn.Module, ...]

    @classmethod
    def of(cls, model: "PreTrainedModel", index: int, names: Sequence[str]) -> "Group":
        owners = tuple(model.get_submodule(f"model.layers.{index}.{name}") for name in names)
        linears = (owner.base if isinstance(owner, LoraLinear) else cast(nn.Linear, owner) for owner in owners)
        return cls(tuple(linears), owners)

    @property
    def ins(self) -> int:
        return self.linears[0].in_features

    @property
    def outs(self) -> int:
        return sum(linear.out_features for linear in self.linears)


def groups_of(model: "PreTrainedModel") -> list[Group]:
    """Of all layers, in the order of a table of lines."""
    return [Group.of(model, index, names) for index in range(model.config.num_hidden_layers) for names in GROUPS]


def fill_lines(lines: Records, groups: Sequence[Group]) -> Iterator[Tensor]:
    """Packs the frozen weights, which the linears lose; the tensors that the table points to."""
    slab = Slab(torch.empty(2 * FLOAT * sum(group.outs * group.ins for group in groups), dtype=torch.uint8))
    for line, group in zip(lines, groups, strict=True):
        weights = [linear.weight.detach() for linear in group.linears]
        forward, back = pack(weights, "float32", slab), pack_back(weights, slab)
        yield from (forward, back)
        line["weight"], line["back"] = forward.data_ptr(), back.data_ptr()
        line["ins"], line["outs"] = group.ins, group.outs
        if group.linears[0].bias is not None:
            bias = pack_bias([linear.bias.detach() for linear in group.linears])
            yield bias
            line["bias"] = bias.data_ptr()
        for linear in group.linears:
            give_back(linear.weight.data)
            linear.weight.data = torch.empty(0)


def fill_parts(parts: Records, lines: Records, groups: Sequence[Group], values: Tensor) -> Iterator[Tensor]:
    """The adapter's linears, whose numbers stand in `values`; the tensors that the tables point to."""
    number = 0
    for index, (line, group) in enumerate(zip(lines, groups, strict=True)):
        line["first_part"], low_column, first = number, 0, 0
        for owner in group.owners:
            if isinstance(owner, LoraLinear):
                part, rank = parts[number], owner.lora_a.shape[0]
                b_panels = torch.empty(owner.out_features * rank)
                yield b_panels
                part["line"], part["first"], part["outs"], part["rank"] = index, first, owner.out_features, rank
                part["low_column"], part["b_panels"] = low_column, b_panels.data_ptr()
                part["a"] = owner.lora_a.data_ptr() - values.data_ptr()
                part["b"] = owner.lora_b.data_ptr() - values.data_ptr()
                number, low_column = number + 1, low_column + whole_panels(rank) * LANES
            first += cast(int, owner.out_features)
        line["parts"], line["low_width"] = number - line["first_part"], low_column
        a_panels = torch.zeros(low_column * group.ins)
        yield a_panels
        line["a_panels"] = a_panels.data_ptr()


class Buffers:
    """Memory that a step computes in and keeps from its forward to its backward pass; it stays for the next step."""

    def __init__(self, step: Records, layers: Records, lines: Records) -> None:
        """The tables that point to it. The model's fields of the step must be there."""
        self._step, self._layers, self._lines = step[0], layers, lines
        self._kept: dict[str, Tensor] = {}
        self._hidden, self._inner, self._head, self._heads, self._kv_heads, self._low_width = (
            int(self._step[name]) for name in ("hidden", "inner", "head", "heads", "kv_heads", "low_width")
        )
        self._queries = self._heads * self._head
        self._qkv = self._queries + 2 * self._kv_heads * self._head

    def make(self, rows: int, threads: int) -> None:
        """For a step of `rows` tokens."""
        panels = whole_panels(rows)
        hidden, inner, queries = self._hidden, self._inner, self._queries
        shared = {
            "normed": hidden, "grad": hidden, "grad_normed": hidden, "opened": inner, "grad_opened": inner,
            "grad_attended": queries, "grad_qkv": self._qkv, "grad_low": self._low_width, "delta": self._heads,
        }  # fmt: skip
        for name, width in shared.items():
            self._step[name] = self._buffer(name, rows, width)
        for name in ("key_panels", "value_panels"):
            self._step[name] = self._buffer(name, panels * LANES, self._kv_heads * self._head)
        block = QUERY_TOKENS * (2 * panels * LANES + queries)
        needed = FLOAT * max(block, 2 * KEY_ROWS * LANES, OUT_BLOCK * self._low_width)
        scratch_bytes = -(-needed // COUNTER_BYTES) * COUNTER_BYTES
        self._step["scratch_bytes"] = scratch_bytes
        self._step["scratch"] = self._buffer("scratch", threads, scratch_bytes // FLOAT)
        self._keep(rows)

    def _keep(self, rows: int) -> None:
        """What every layer has for itself. Its output is the next one's input."""
        count = len(self._layers)
        stream, size = self._buffer("stream", (2 * count + 1) * rows, self._hidden), rows * self._hidden * FLOAT
        for offset, name in enumerate(("source", "middle", "target")):
            self._layers[name] = [stream + (2 * index + offset) * size for index in range(count)]
        for name, width in {
            "qkv": self._qkv, "attended": self._queries, "lse": self._heads, "gated": 2 * self._inner
        }.items():  # fmt: skip
            first = self._buffer(name, count * rows, width)
            self._layers[name] = [first + index * rows * width * FLOAT for index in range(count)]
        widths = [int(width) for width in self._lines["low_width"]]
        place = self._buffer("low", rows, sum(widths))
        for line, width in zip(self._lines, widths, strict=True):
            line["low"] = place
            place += rows * width * FLOAT

    def input(self, rows: int) -> Tensor:
        """Of the first layer [rows, hidden]."""
        return self._kept["stream"][:rows]

    def output(self, rows: int) -> Tensor:
        """Of the last layer [rows, hidden]."""
        end = (2 * len(self._layers) + 1) * rows
        return self._kept["stream"][end - rows : end]

    def grad(self, rows: int) -> Tensor:
        """By the last layer's output [rows, hidden]; the backward pass overwrites it."""
        return self._kept["grad"][:rows]

    def _buffer(self, name: str, rows: int, width: int) -> int:
        """The address of [at least `rows`, width]; what a longer step left in it are numbers."""
        kept = self._kept.get(name)
        if kept is None or len(kept) < rows or kept.shape[1] < width:
            self._kept.pop(name, None)  # first, or both would be in memory
            kept = self._kept[name] = torch.zeros(rows + rows // 8, width)
        return kept.data_ptr()
