"""Cases of a training step's linears with LoRA, forward and backward."""

from dataclasses import dataclass
from itertools import product

import numpy
from tests.kernels.reference import (
    KINDS,
    Floats,
    Pairs,
    Record,
    counter,
    normal,
    records,
    reference,
    stored,
    to_panels,
    whole,
    wide,
)

from tunesmith.kernels.multiply import TILE_PANELS
from tunesmith.kernels.training import linear
from tunesmith.kernels.training.step_args import LORA_PART, OUT_BLOCK, TRAIN_MATRIX, TRAIN_STEP_ARGS
from tunesmith.kernels.vectors import LANES, Number

OUTS = (2 * LANES, LANES, OUT_BLOCK + LANES)  # of the three linears of a matrix


@dataclass(frozen=True, slots=True)
class Lora:
    """A matrix of three linears, the second without LoRA, and a step's arguments for it."""

    args: Record
    matrix: Record
    parts: tuple[Record, Record]
    weight: Floats  # [outs, ins]
    x: Floats  # [rows, ins]
    grad: Floats  # [rows, outs]
    a: tuple[Floats, Floats]
    b: tuple[Floats, Floats]
    firsts: tuple[int, int]

    @classmethod
    def of(
        cls, rows: int, ranks: tuple[int, int], back: bool = True, kind: int = Number.FLOAT32, ins: int = 0
    ) -> "Lora":
        """Widths are multiples of 16: models with others train by their own layers. `kind`: of the stored weight."""
        random, ins = numpy.random.default_rng(rows), ins or whole(rows)
        a = normal(random, ranks[0], ins), normal(random, ranks[1], ins)
        b = normal(random, OUTS[0], ranks[0]), normal(random, OUTS[2], ranks[1])
        kept, firsts = stored(normal(random, sum(OUTS), ins), kind), (0, OUTS[0] + OUTS[1])
        weight = wide(kept).astype(numpy.float32)
        width = sum(map(whole, ranks))
        args, matrix = _lora_args(random, rows, ins, width, [*a, *b]), _lora_matrix(random, rows, width, kept)
        matrix.set(kind=int(kind))
        if back:
            matrix.set(back=to_panels(kept.T))
        offsets = numpy.cumsum([0, *(part.nbytes for part in (*a, *b))]).tolist()
        parts = [
            Record(
                LORA_PART,
                first=firsts[index],
                outs=len(b[index]),
                rank=ranks[index],
                lora_column=index * whole(ranks[0]),
                a=offsets[index],
                b=offsets[2 + index],
                b_panels=numpy.zeros(b[index].size, numpy.float32),
            )
            for index in range(2)
        ]
        x, grad = normal(random, rows, ins), normal(random, rows, sum(OUTS))
        return cls(args, matrix, (parts[0], parts[1]), weight, x, grad, a, b, firsts)

    @property
    def scratch(self) -> int:
        return self.args["scratch"].ctypes.data

    def columns(self, index: int) -> slice:
        """Of the matrix's outputs, those of a part."""
        return slice(self.firsts[index], self.firsts[index] + len(self.b[index]))

    def hidden(self, index: int) -> slice:
        """Of `lora_hidden`, the columns of a part."""
        first = index * whole(len(self.a[0]))
        return slice(first, first + len(self.a[index]))

    def lora_hidden(self) -> Floats:
        """scale * x @ a^T in float64."""
        result = numpy.zeros(self.matrix["lora_hidden"].shape)
        for index in range(2):
            result[:, self.hidden(index)] = 0.5 * wide(self.x) @ wide(self.a[index]).T
        return result

    def grad_lora_hidden(self) -> Floats:
        result = numpy.zeros(self.matrix["lora_hidden"].shape)
        for index in range(2):
            result[:, self.hidden(index)] = 0.5 * wide(self.grad)[:, self.columns(index)] @ wide(self.b[index])
        return result

    def repack(self) -> None:
        linear.repack(self.args.one, counter(), self.matrix.rows, records(*self.parts))


def _lora_args(random: numpy.random.Generator, rows: int, ins: int, width: int, numbers: list[Floats]) -> Record:
    """With room behind the adapter's numbers: a product reads whole panels of the last row of b."""
    flat = numpy.concatenate([*(part.ravel() for part in numbers), numpy.zeros(2 * LANES, numpy.float32)])
    return Record(
        TRAIN_STEP_ARGS,
        adapted=1,
        parts=2,
        rows=rows,
        lora_width=width,
        update_scale=0.5,
        values=flat,
        grads=normal(random, len(flat)),
        grad_lora_hidden=numpy.zeros((rows, width), numpy.float32),
        scratch=numpy.zeros(max(OUT_BLOCK * width, TILE_PANELS * LANES * max(sum(OUTS), ins)), numpy.float32),
    )


def _lora_matrix(random: numpy.random.Generator, rows: int, width: int, weight: Floats) -> Record:
    outs, ins = weight.shape
    return Record(
        TRAIN_MATRIX,
        weight=to_panels(weight),
        bias=normal(random, outs),
        ins=ins,
        outs=outs,
        lora_width=width,
        parts=2,
        lora_hidden=numpy.zeros((rows, width), numpy.float32),
        a_panels=numpy.zeros((width // LANES, ins, LANES), numpy.float32),
    )


@reference(linear.repack, linear.prepare, linear.linear)
def linear_case(size: int) -> Pairs:
    """Of `size` rows and rank `size`, and as many inputs in whole panels; with a residual, and with the base alone."""
    lora = Lora.of(size, (size, LANES))
    lora.repack()
    a = numpy.concatenate([to_panels(wide(part)) for part in lora.a])
    pairs = [(lora.matrix["a_panels"], a)]
    pairs += [(part["b_panels"], to_panels(wide(b)).ravel()) for part, b in zip(lora.parts, lora.b, strict=True)]
    args, matrix, parts = lora.args, lora.matrix, records(*lora.parts)
    x, target, residual = lora.x.ctypes.data, numpy.zeros_like(lora.grad), lora.grad
    linear.prepare(args.one, counter(), matrix.one, x)
    pairs.append((matrix["lora_hidden"].copy(), lora.lora_hidden()))
    base = wide(lora.x) @ wide(lora.weight).T + matrix["bias"]
    expected = base + residual
    for index in range(2):
        expected[:, lora.columns(index)] += lora.lora_hidden()[:, lora.hidden(index)] @ wide(lora.b[index]).T
    target_at, residual_at = target.ctypes.data, residual.ctypes.data
    linear.linear(args.one, counter(), 0, matrix.one, parts, x, target_at, residual_at, lora.scratch)
    pairs.append((target.copy(), expected))
    args.set(adapted=0)
    linear.linear(args.one, counter(), 0, matrix.one, parts, x, target_at, 0, lora.scratch)
    return [*pairs, (target, base)]


@reference(linear.lora_back, linear.linear_back)
def linear_back_case(size: int) -> Pairs:
    """Of `size` rows and rank `size`, with weights for both directions and without; gradients are added."""
    pairs: list[tuple[Floats, Floats]] = []
    for back, kind in product((True, False), KINDS):
        lora = Lora.of(size, (size, LANES), back, kind)
        lora.matrix["lora_hidden"][:] = lora.lora_hidden()
        before, hidden = wide(lora.args["grads"]), lora.grad_lora_hidden()
        args, matrix, parts = lora.args, lora.matrix, records(*lora.parts)
        grad, x, target = lora.grad.ctypes.data, lora.x.ctypes.data, numpy.zeros_like(lora.x)
        linear.lora_back(args.one, counter(), matrix.one, parts, grad, lora.scratch)
        for index in range(2):
            got = args["grad_lora_hidden"][:, lora.hidden(index)]
            pairs.append((got, hidden[:, lora.hidden(index)]))
        back_args = grad, x, target.ctypes.data, lora.scratch
        linear.linear_back(args.one, counter(), 0, matrix.one, parts, *back_args)
        expected, grads = wide(lora.grad) @ wide(lora.weight), []
        for index in range(2):
            part = hidden[:, lora.hidden(index)]
            expected += part @ wide(lora.a[index])
            grads.append((part.T @ wide(lora.x)).ravel())
        for index in range(2):
            by_b = wide(lora.grad)[:, lora.columns(index)].T @ lora.lora_hidden()[:, lora.hidden(index)]
            grads.append(by_b.ravel())
        flat = numpy.concatenate(grads)
        pairs += [(target, expected), (args["grads"][: len(flat)], before[: len(flat)] + flat)]
    return pairs
