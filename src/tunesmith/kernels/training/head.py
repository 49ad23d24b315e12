"""The output layer of a training step: logits, and the gradient of its input.

A vocabulary is long, so the gradient is made from parts of it: some outputs' weights are transposed into a near cache,
and all rows are multiplied with them before the next ones. Where the parts begin depends on nothing but the vocabulary.
"""

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.multiply import multiply_float32
from tunesmith.kernels.pieces import piece_panels
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.linear import frozen_product
from tunesmith.kernels.training.step_args import HEAD_OUTPUTS, TrainMatrix, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES
from tunesmith.kernels.widths import panel_bytes, transpose_panel

BACK_PANELS = 3  # of the gradient that are a piece of work: a part of the logits' gradient is read once for them


@compiled
def head_logits(args: TrainStepArgs, counter: int, threads: int, head: TrainMatrix, scratch: int) -> None:
    """logits [rows, outs] = head_input [rows, ins] @ w^T + bias.

    A piece of work is some panels of the outputs.
    """
    panels, ins = head.outs // LANES, head.ins
    stride, out_stride = ins * FLOAT_BYTES, head.outs * FLOAT_BYTES
    panel_stride, none = panel_bytes(head.kind, ins), number(0)
    step = piece_panels(panels, threads)
    first = claim(counter) * step
    while first < panels:
        count, column = min(step, panels - first), first * PANEL_ROW_BYTES
        w, bias, out = head.weight + first * panel_stride, head.bias, args.logits + column
        add = bias + column if bias else none
        frozen_product(
            head.kind, args.head_rows, args.head_input, stride, w, ins, count, out, out_stride, add, none, scratch
        )
        first = claim(counter) * step


@compiled
def head_back(args: TrainStepArgs, counter: int, head: TrainMatrix, scratch: int) -> None:
    """head_input = logits @ w, where both are gradients.

    A piece of work is BACK_PANELS panels of the inputs. `scratch`: memory of this thread, [HEAD_OUTPUTS, 16].
    """
    panels, blocks, stride = head.ins // LANES, head.outs // LANES, head.ins * FLOAT_BYTES
    panel_stride, grad_stride, one = panel_bytes(head.kind, head.ins), head.outs * FLOAT_BYTES, number(1)
    first = claim(counter) * BACK_PANELS
    while first < panels:
        last = min(first + BACK_PANELS, panels)
        for block in range(0, blocks, HEAD_OUTPUTS // LANES):
            count = min(HEAD_OUTPUTS // LANES, blocks - block)
            length, x = count * LANES, args.logits + block * PANEL_ROW_BYTES
            for panel in range(first, last):
                transpose_panel(head.kind, head.weight + block * panel_stride, panel_stride, count, panel, scratch)
                out = args.head_input + panel * PANEL_ROW_BYTES
                add = out if block else number(0)
                wide = length * PANEL_ROW_BYTES
                multiply_float32(args.head_rows, x, grad_stride, scratch, wide, length, one, out, stride, add, stride)
        first = claim(counter) * BACK_PANELS
