"""The output layer in panels, computed by the threads of the compiled layers.

One copy of its weights serves both directions: what the gradient needs is transposed from it a part at a time.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tunesmith.families.array_panels import kind_of, whole_panels
from tunesmith.families.panels import frozen_width, pack, pack_bias, packed_bytes, stored_width
from tunesmith.kernels.records import Records
from tunesmith.kernels.training.step_args import HeadPass
from tunesmith.kernels.vectors import LANES
from tunesmith.settings import Quantization
from tunesmith.system.pages import Slab, is_of_file, release_pages

Pass = Callable[[HeadPass, Tensor, Tensor], None]  # of a hidden state [L, hidden] and logits [L, whole panels]


class CompiledHead:
    """A `FrozenHead`; `head`, unless it is the embedding too, loses its weight."""

    def __init__(
        self, head: nn.Linear, embedding: Tensor, line: Records, run: Pass, quantization: Quantization = "none"
    ) -> None:
        """`line`: where the kernels find it, a TRAIN_MATRIX; `run`: makes a pass."""
        weight, self._run, self._line = head.weight.detach(), run, line
        self.outputs: int = len(weight)
        width = frozen_width(weight.shape[1], quantization, stored_width(weight.dtype), head=True)
        slab = Slab(torch.empty(packed_bytes([weight], width), dtype=torch.uint8))
        shared = weight.data_ptr() == embedding.data_ptr()  # few rows of it are read as embeddings
        freed = not shared or is_of_file(weight)
        self._panels = pack([weight], width, slab, release_pages if freed else _keep)
        self._bias = None if head.bias is None else pack_bias([head.bias.detach()])
        line["weight"], line["kind"] = self._panels.data_ptr(), kind_of(width)
        line["ins"], line["outs"] = weight.shape[1], whole_panels(self.outputs) * LANES
        line["bias"] = 0 if self._bias is None else self._bias.data_ptr()
        if not shared:
            head.weight.data = torch.empty(0)

    def logits(self, x_NI: Tensor) -> Tensor:
        """The product x W^T + bias [N, out] in float32."""
        logits = torch.empty(len(x_NI), int(self._line["outs"]))
        self._run(HeadPass.LOGITS, x_NI.contiguous(), logits)
        return logits[:, : self.outputs]

    def grad_input(self, grad_NO: Tensor) -> Tensor:
        """The gradient g W [N, in] with respect to x, where g is that of the logits."""
        columns = int(self._line["outs"])
        if grad_NO.stride() != (columns, 1):  # not made in place of logits
            grad_NO = torch.nn.functional.pad(grad_NO, (0, columns - self.outputs)).contiguous()
        grad_NI = torch.empty(len(grad_NO), int(self._line["ins"]))
        self._run(HeadPass.GRADIENT, grad_NI, grad_NO)
        return grad_NI


def _keep(_rows: Tensor) -> None:
    """Rows that are not in a file would lose their values."""
