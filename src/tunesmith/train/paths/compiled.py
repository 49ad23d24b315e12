"""The layers of Llama and its relatives as compiled code, on a CPU in float32.

Autograd sees one function from token ids to the last layer's output: one call forward, one backward. Everything else of
a run (output layer, losses, optimizer, resume) is the same on all paths. `families.table` says which families are
compiled, `paths.choose_stack` when they are used.
"""

import weakref
from typing import TYPE_CHECKING, cast

import numpy
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from tunesmith.families.array_panels import whole_panels
from tunesmith.families.layout import head_size, layer_path, norm_names
from tunesmith.families.model_formulas import formulas_of, layout_of
from tunesmith.families.table import windows
from tunesmith.kernels.dots.unit import WHOLE, DotUnit
from tunesmith.kernels.records import new_counters
from tunesmith.kernels.thread_pool import MOST_THREADS, ThreadPool
from tunesmith.kernels.training.phase_times import PhaseTimes
from tunesmith.kernels.training.step import training_step
from tunesmith.kernels.training.step_args import (
    LORA_PART,
    TRAIN_LAYER,
    TRAIN_MATRIX,
    TRAIN_STEP_ARGS,
    HeadPass,
    train_phases,
)
from tunesmith.kernels.vectors import LANES, Number
from tunesmith.settings import Quantization
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.packing import Packed
from tunesmith.train.paths.compiled_head import CompiledHead
from tunesmith.train.paths.compiled_tables import Buffers, fill_lines, fill_parts, groups_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CompiledLayers:
    """The compiled layers of one model.

    Takes the weights out of the layers of `model`, which cannot be used otherwise afterwards.
    """

    def __init__(
        self, model: "PreTrainedModel", adapter: Adapter, both: bool = False, quantization: Quantization = "none"
    ) -> None:
        """`both`: weights are kept in a layout for each direction, which pays in small steps."""
        self._adapter, self._rotary, self._config = adapter, model.base_model.rotary_emb, model.config
        self._quantization = quantization
        self._final_norm: nn.Module = model.base_model.norm
        self._embedding: Tensor = model.base_model.embed_tokens.weight.detach()
        self._formulas = formulas_of(model)
        groups, layers = groups_of(model), model.config.num_hidden_layers
        self._step, self._layers = numpy.zeros(1, TRAIN_STEP_ARGS), numpy.zeros(layers, TRAIN_LAYER)
        self._matrices = numpy.zeros(len(groups) + 1, TRAIN_MATRIX)  # the last one is the output layer's
        lines = self._matrices[:-1]
        self._parts = numpy.zeros(len(adapter.layers), LORA_PART)
        self._norms = [_norms(model, index) for index in range(layers)]
        self._layers["rotation"] = [layer.rotation for layer in self._formulas.layers]
        for row, norms in zip(self._layers, self._norms, strict=True):
            for name, norm in norms.items():
                row[name] = norm.data_ptr()
        # The tables point into what is kept here, in `_norms` and in the adapter.
        self._weights = [*fill_lines(lines, groups, both, quantization)]
        self._panels = [*fill_parts(self._parts, lines, groups, adapter.flat)]
        self._counters = new_counters(train_phases(layers))
        self._describe(model)
        self._buffers = Buffers(self._step, self._layers, lines)
        self._pointed: dict[str, Tensor] = {}  # by the step, so they must live as long as it
        self._passes = 0
        self._pool = self._start_pool()

    def hidden(self, packed: Packed, sources: Tensor) -> Tensor:
        """See `LayerStack`; the final norm is the model's own module."""
        output = _Layers.apply(self._adapter.flat, self, packed)  # type: ignore[no-untyped-call]
        return cast(Tensor, self._final_norm(output.index_select(0, sources)))

    def take_head(self, head: nn.Linear) -> CompiledHead:
        """The output layer `head`, computed here; it may not be used otherwise afterwards."""
        return CompiledHead(head, self._embedding, self._matrices[-1], self._head_pass, self._quantization)

    def forward(self, packed: Packed) -> tuple[Tensor, int]:
        """The last layer's output [T, hidden], and a number that `backward` asks for."""
        self._buffers.make(packed.length, torch.get_num_threads())
        self._fill(packed)
        stream = self._buffers.input(packed.length)
        stream.copy_(self._embedding[torch.tensor(packed.ids)])
        if (scale := self._formulas.embedding_scale / self._formulas.branch_scale) != 1.0:
            stream *= scale
        self._run(backward=False)
        return self._buffers.output(packed.length) * self._formulas.branch_scale, self._passes

    def backward(self, grad_TD: Tensor, number: int) -> None:
        """Adds to the adapter's gradient.

        RuntimeError: the forward pass of that number was not the last pass.
        """
        if number != self._passes:
            raise RuntimeError("Another pass has overwritten what this backward pass needs.")
        torch.mul(grad_TD, self._formulas.branch_scale, out=self._buffers.grad(len(grad_TD)))
        self._run(backward=True)

    def measure(self) -> PhaseTimes:
        """Counts from now on what the threads' time goes to."""
        self._times = PhaseTimes()
        self._step["times"] = self._times.address
        return self._times

    @property
    def takes_dots(self) -> bool:
        """Whether a `DotUnit` multiplies the layers' matrices: bfloat16, whole sizes."""
        lines = self._matrices[:-1]
        return all((lines["kind"] == Number.BFLOAT16) & (lines["ins"] % WHOLE == 0) & (lines["outs"] % WHOLE == 0))

    def use_dots(self, unit: DotUnit) -> None:
        """Has the unit multiply the layers' matrices, with rounded activations.

        NONE: products are exact.
        """
        if unit and not self.takes_dots:
            raise ValueError("The matrices are not bfloat16 numbers, or have odd sizes.")
        self._step["dots"] = unit

    def _run(self, *, backward: bool) -> None:
        step, adapter = self._step, self._adapter
        step["backward"], step["adapted"] = backward, next(iter(adapter.layers.values())).enabled
        step["values"], step["grads"] = adapter.flat.data_ptr(), adapter.grad.data_ptr()
        self._counters.fill(0)
        self._passes += 1
        threads = self._pool.gather(torch.get_num_threads())
        training_step(0, threads, step, self._layers, self._matrices, self._parts)

    def _head_pass(self, kind: HeadPass, hidden_LD: Tensor, logits_LV: Tensor) -> None:
        """Fills in one of both from the other; the layers have made room for as many threads."""
        step = self._step
        step["head"], step["head_rows"] = kind, len(hidden_LD)
        step["head_input"], step["logits"] = hidden_LD.data_ptr(), logits_LV.data_ptr()
        self._counters.fill(0)
        threads = self._pool.gather(torch.get_num_threads())
        training_step(0, threads, step, self._layers, self._matrices, self._parts)
        step["head"] = 0

    def _start_pool(self) -> ThreadPool:
        """The threads, which end with this object: nothing that they run may refer to it."""
        tables = (self._step, self._layers, self._matrices, self._parts)
        pool = ThreadPool(MOST_THREADS, lambda thread: training_step(thread, 0, *tables))
        self._step["pool"] = pool.address
        weakref.finalize(self, pool.close)
        return pool

    def _describe(self, model: "PreTrainedModel") -> None:
        """What does not change from step to step.

        Where a family scales what attention and MLP add to the residual stream, the stream is divided by that scale
        instead. Norms take no notice once their epsilon is divided too, and gradients of the adapter stay the same.
        """
        config = model.config
        layer = next(iter(self._adapter.layers.values()))
        fields = {
            "layers": config.num_hidden_layers,
            "hidden": config.hidden_size,
            "heads": config.num_attention_heads,
            "kv_heads": config.num_key_value_heads,
            "head_size": head_size(config),
            "rotary_size": self._formulas.rotary_size,
            "score_scale": self._formulas.score_scale,
            "score_cap": self._formulas.score_cap,
            "wide_norms": self._formulas.wide_norms,
            "activation": self._formulas.activation,
            "neighbours": layout_of(config).neighbours,
            "inner": config.intermediate_size,
            "parts": len(self._parts),
            "lora_width": int(self._matrices["lora_width"].max()),
            "eps": config.rms_norm_eps / self._formulas.branch_scale**2,
            "update_scale": layer.scale,
            "counters": self._counters.ctypes.data,
        }
        for name, value in fields.items():
            self._step[name] = value

    def _fill(self, packed: Packed) -> None:
        """What a step says of its tokens."""
        panels = whole_panels(packed.length)
        until, positions = torch.zeros(2, panels * LANES, dtype=torch.int64)
        for node in packed.nodes:
            until[node.start : node.stop] = node.end
        positions[: packed.length] = torch.tensor(packed.positions)
        cos, sin = self._angles(positions[: packed.length])
        self._pointed = {
            "cos": cos,
            "sin": sin,
            "until": until,
            "panel_until": until.view(panels, LANES).amax(1),
            "panel_least": until.view(panels, LANES).amin(1),
            "positions": positions,
            "panel_low": positions.view(panels, LANES).amin(1),
            "panel_high": positions.view(panels, LANES).amax(1),
        }
        for name, tensor in self._pointed.items():
            self._step[name] = tensor.data_ptr()
        self._step["rows"], self._step["panels"] = packed.length, panels
        self._layers["window"] = windows(self._config, max(packed.positions) + 1)

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The cosines and the sines [rotations, rows, rotary_size]."""
        kinds = [() if kind is None else (kind,) for kind in self._formulas.rotations]
        cos, sin = zip(*(self._rotary(torch.empty(1), positions[None], *kind) for kind in kinds), strict=True)
        return torch.cat(cos).contiguous(), torch.cat(sin).contiguous()


class _Layers(torch.autograd.Function):
    """Adds to the adapter's gradient itself, so autograd gets none."""

    @staticmethod
    def forward(ctx: FunctionCtx, flat: Tensor, layers: CompiledLayers, packed: Packed) -> Tensor:
        """See the class."""
        hidden, ctx.number = layers.forward(packed)  # type: ignore[attr-defined]
        ctx.layers = layers  # type: ignore[attr-defined]
        return hidden

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[None, None, None]:
        """See the class."""
        cast(CompiledLayers, ctx.layers).backward(grads[0], cast(int, ctx.number))  # type: ignore[attr-defined]
        return None, None, None


def _norms(model: "PreTrainedModel", index: int) -> dict[str, Tensor]:
    """What the norms multiply by, by the fields of a layer's table."""
    layer, layout = model.get_submodule(layer_path(index)), layout_of(model.config)
    names = norm_names(layer.self_attn, layout.norms)
    weights = {field: cast(Tensor, layer.get_submodule(name).weight) for field, name in names.items()}
    return {field: (weight.detach().float() + layout.norm_offset).contiguous() for field, weight in weights.items()}
