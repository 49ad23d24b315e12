"""The tables that compiled layers read.

They say where the weights, the adapter and what a step keeps are in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tunesmith.families.array_panels import Width, kind_of, whole_panels
from tunesmith.families.layout import layer_inputs, layer_path
from tunesmith.families.panels import frozen_width, pack, pack_back, pack_bias, packed_bytes, stored_width
from tunesmith.kernels.dots.pairs import ROUNDED_BYTES
from tunesmith.kernels.dots.products import dot_scratch
from tunesmith.kernels.multiply import TILE_PANELS
from tunesmith.kernels.records import Records
from tunesmith.kernels.thread_pool import CACHE_LINE
from tunesmith.kernels.training.step_args import HEAD_OUTPUTS, KEY_ROWS, OUT_BLOCK, QUERY_TOKENS, score_ranges
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES
from tunesmith.settings import Quantization
from tunesmith.system.pages import Slab, fresh_zeros, release_pages
from tunesmith.train.adapters.lora import LoraLinear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPARE = 2  # so many times the memory of a step is mapped; what no step needs is never touched


@dataclass(frozen=True, slots=True)
class Group:
    """Linears that read the same input, and the modules that the model has for them."""

    linears: tuple[nn.Linear, ...]
    owners: tuple[nn.Module, ...]

    @classmethod
    def of(cls, model: "PreTrainedModel", paths: Sequence[str]) -> "Group":
        """The linears at `paths`."""
        owners = tuple(model.get_submodule(path) for path in paths)
        linears = (owner.base if isinstance(owner, LoraLinear) else cast(nn.Linear, owner) for owner in owners)
        return cls(tuple(linears), owners)

    @property
    def ins(self) -> int:
        """The number of inputs that the linears share."""
        return self.linears[0].in_features

    def width(self, quantization: Quantization = "none") -> Width:
        """The format of the panels.

        That of the weights where the kernels read it, else float32; blocks where these are asked for.
        """
        (stored, *others) = {stored_width(linear.weight.dtype) for linear in self.linears}
        return frozen_width(self.ins, quantization, "float32" if others else stored)

    def weights(self) -> list[Tensor]:
        """The weights of all linears."""
        return [linear.weight.detach() for linear in self.linears]

    @property
    def outs(self) -> int:
        """The number of outputs of all linears together."""
        return sum(linear.out_features for linear in self.linears)


def groups_of(model: "PreTrainedModel") -> list[Group]:
    """The groups of all layers, in the order of a table of lines."""
    layers = [layer_path(index) for index in range(model.config.num_hidden_layers)]
    return [
        Group.of(model, [f"{layer}.{path}" for path in paths])
        for layer in layers
        for paths in layer_inputs(model.get_submodule(layer))
    ]


def fill_lines(
    lines: Records, groups: Sequence[Group], both: bool, quantization: Quantization = "none"
) -> Iterator[Tensor]:
    """Packs the frozen weights into the table; yields the tensors that it points to.

    The linears lose their weights, each when it has been packed, so that the base is never in memory twice. Panels have
    the format of the weights, which are widened as they are read, or are rounded to blocks. `both`: for both
    directions, which takes twice the memory; blocks are for one.
    """
    widths = [group.width(quantization) for group in groups]
    size = sum(packed_bytes(group.weights(), width) for group, width in zip(groups, widths, strict=True))
    slab = Slab(torch.empty(2 * size if both else size, dtype=torch.uint8))
    for line, group, width in zip(lines, groups, widths, strict=True):
        weights = group.weights()
        forward = pack(weights, width, slab)
        yield forward
        line["weight"], line["ins"], line["outs"] = forward.data_ptr(), group.ins, group.outs
        line["kind"] = kind_of(width)
        if both:
            back = pack_back(weights, width, slab)
            yield back
            line["back"] = back.data_ptr()
        if group.linears[0].bias is not None:
            bias = pack_bias([linear.bias.detach() for linear in group.linears])
            yield bias
            line["bias"] = bias.data_ptr()
        for linear in group.linears:
            release_pages(linear.weight.data)
            linear.weight.data = torch.empty(0)


def fill_parts(parts: Records, lines: Records, groups: Sequence[Group], values: Tensor) -> Iterator[Tensor]:
    """Fills in the adapter's linears, whose values are in `values`.

    Yields the tensors that the tables point to.
    """
    number = 0
    for index, (line, group) in enumerate(zip(lines, groups, strict=True)):
        line["first_part"], low_column, first = number, 0, 0
        for owner in group.owners:
            if isinstance(owner, LoraLinear):
                part, rank = parts[number], owner.lora_a.shape[0]
                b_panels = torch.empty(owner.out_features * rank)
                yield b_panels
                part["matrix"], part["first"], part["outs"], part["rank"] = index, first, owner.out_features, rank
                part["lora_column"], part["b_panels"] = low_column, b_panels.data_ptr()
                part["a"] = FLOAT_BYTES * (owner.lora_a.storage_offset() - values.storage_offset())
                part["b"] = FLOAT_BYTES * (owner.lora_b.storage_offset() - values.storage_offset())
                number, low_column = number + 1, low_column + whole_panels(rank) * LANES
            first += cast(int, owner.out_features)
        line["parts"], line["lora_width"] = number - line["first_part"], low_column
        a_panels = torch.zeros(low_column * group.ins)
        yield a_panels
        line["a_panels"] = a_panels.data_ptr()


class Buffers:
    """The memory of a step, kept from its forward to its backward pass.

    Owns what the tables point to. It is used again for the next step.
    """

    def __init__(self, step: Records, layers: Records, lines: Records) -> None:
        """Takes the tables that point to it; the model's fields of the step must be set."""
        self._step, self._layers, self._lines = step[0], layers, lines
        self._hidden, self._inner, self._head, self._heads, self._kv_heads, self._low_width = (
            int(self._step[name]) for name in ("hidden", "inner", "head_size", "heads", "kv_heads", "lora_width")
        )
        self._queries = self._heads * self._head
        self._branches = bool(layers["attention_post_norm"].any())  # have norms of their own
        self._qkv = self._queries + 2 * self._kv_heads * self._head
        made = [int(line["outs"]) for line in lines if line["kind"] or not line["back"]]
        widened = [self._hidden, *(int(line["ins"]) for line in lines if line["kind"])]  # the output layer's too
        self._panels = TILE_PANELS * LANES * max([*made, *widened])  # made or widened in each step
        self._widest = int(max(lines["ins"].max(), lines["outs"].max()))
        self._memory = torch.empty(0)
        self._places: dict[str, Tensor] = {}

    def make(self, rows: int, threads: int) -> None:
        """Makes room for a step of `rows` tokens."""
        sizes = self._shared(rows, threads) | self._kept(rows)
        self._lay_out(sizes)
        for name in self._shared(rows, threads):
            self._step[name] = self._places[name].data_ptr()
        self._step["range_heads"], self._step["range_panels"] = self._ranges(rows)
        self._step["scratch_bytes"] = FLOAT_BYTES * self._scratch(rows)
        self._point(rows)

    def input(self, rows: int) -> Tensor:
        """The input of the first layer [rows, hidden]."""
        return self._stream[:rows]

    def output(self, rows: int) -> Tensor:
        """The output of the last layer [rows, hidden]."""
        return self._stream[-rows:]

    def grad(self, rows: int) -> Tensor:
        """The gradient of that output [rows, hidden]; the backward pass overwrites it."""
        return self._places["grad"].view(rows, self._hidden)

    @property
    def _stream(self) -> Tensor:
        return self._places["stream"].view(-1, self._hidden)

    def _shared(self, rows: int, threads: int) -> dict[str, int]:
        """The numbers of what one layer after the other uses."""
        hidden, inner, queries = self._hidden, self._inner, self._queries
        widths = {
            "normed": hidden, "grad": hidden, "grad_normed": hidden, "activated": inner, "grad_activated": inner,
            "grad_attended": queries, "grad_qkv": self._qkv, "grad_lora_hidden": self._low_width, "delta": self._heads,
            "grad_branch": hidden if self._branches else 0,
        }  # fmt: skip
        sizes = {name: rows * width for name, width in widths.items()}
        tokens = whole_panels(rows) * LANES
        sizes |= dict.fromkeys(("key_panels", "value_columns", "key_columns"), tokens * self._kv_heads * self._head)
        copies = ("query_panels", "query_columns", "grad_panels", "grad_columns")
        sizes |= dict.fromkeys(copies, tokens * self._queries)
        heads, panels = self._ranges(rows)
        sizes["rounded"] = tokens * self._widest * ROUNDED_BYTES // FLOAT_BYTES if self._step["dots"] else 0
        sizes["score_grads"] = heads * self._heads // self._kv_heads * panels * LANES * tokens
        return sizes | {"scratch": threads * self._scratch(rows)}

    def _ranges(self, rows: int) -> tuple[int, int]:
        return score_ranges(whole_panels(rows), self._heads, self._kv_heads)

    def _scratch(self, rows: int) -> int:
        """Of one thread: whole cache lines."""
        block = QUERY_TOKENS * (whole_panels(rows) + 1) * LANES
        low = OUT_BLOCK * self._low_width
        dots = dot_scratch(self._widest) // FLOAT_BYTES if self._step["dots"] else 0
        return _lines_of(max(block, 2 * KEY_ROWS * LANES, low, HEAD_OUTPUTS * LANES, self._panels, dots))

    def _kept(self, rows: int) -> dict[str, int]:
        """The numbers of what every layer has for itself. Its output is the next one's input."""
        count = len(self._layers)
        return {
            "stream": (2 * count + 1) * rows * self._hidden,
            "lora_hidden": rows * int(self._lines["lora_width"].sum()),
            "rotated": rows * self._qkv if self._layers["query_norm"].any() else 0,  # of one layer after the other
            **{name: count * rows * width for name, width in self._of_layers().items()},
        }

    def _of_layers(self) -> dict[str, int]:
        kept = {"raw": self._qkv, "attended": self._queries, "lse": self._heads, "gate_up": 2 * self._inner}
        return kept | dict.fromkeys(("attention_branch", "mlp_branch"), self._hidden) if self._branches else kept

    def _point(self, rows: int) -> None:
        """The tables of layers and lines to their parts."""
        count = len(self._layers)
        stream = self._places["stream"].view(2 * count + 1, rows * self._hidden)
        for first, name in enumerate(("source", "after_attention", "target")):
            self._layers[name] = [part.data_ptr() for part in stream[first : first + 2 * count : 2]]
        for name in self._of_layers():
            self._layers[name] = [part.data_ptr() for part in self._places[name].view(count, -1)]
        # With norms, queries and keys are made again from `raw`, which a norm's gradient needs.
        normed = self._layers["query_norm"].any()
        self._layers["qkv"] = self._places["rotated"].data_ptr() if normed else self._layers["raw"]
        sizes = [rows * int(width) for width in self._lines["lora_width"]]
        self._lines["lora_hidden"] = [part.data_ptr() for part in self._places["lora_hidden"].split_with_sizes(sizes)]

    def _lay_out(self, sizes: dict[str, int]) -> None:
        """Side by side in one piece of memory, of which only what a step writes to is taken from the system.

        A larger piece replaces it once the smaller one has been given back.
        """
        needed = sum(map(_lines_of, sizes.values()))
        if needed > len(self._memory):
            self._places = {}
            self._memory = torch.empty(0)
            self._memory = fresh_zeros((SPARE * needed,), huge=True)
        first = 0
        for name, size in sizes.items():
            self._places[name] = self._memory[first : first + size]
            first += _lines_of(size)


def _lines_of(numbers: int) -> int:
    """Rounded up to whole cache lines."""
    line = CACHE_LINE // FLOAT_BYTES
    return -(-numbers // line) * line
