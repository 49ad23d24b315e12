"""Bfloat16 dot products: the bits of the instructions, on an emulated processor, and linears that use them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from tests.kernels.cases.dot_cases import LENGTH, PANELS, in_pairs, operands, rounded, to_bfloat16
from tests.kernels.cases.linear_cases import Lora
from tests.kernels.dots.emulator import tile_product, why_not
from tests.kernels.linears import Linears
from tests.kernels.reference import Floats, Record, counter, normal, records, silu, to_panels, wide

from tunesmith.kernels.dots.pairs import round_rows
from tunesmith.kernels.dots.products import dot_scratch, multiply_rounded
from tunesmith.kernels.dots.unit import WHOLE, DotUnit, dot_unit
from tunesmith.kernels.serving import linear as serving_linear
from tunesmith.kernels.serving.step_args import SEGMENT_COLUMNS, STEP_ARGS
from tunesmith.kernels.training import linear
from tunesmith.kernels.vectors import LANES, Number, features

SAPPHIRE_RAPIDS = (
    "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+avx512f,+avx512vl,+avx512bw,+avx512dq,+avx512cd,+avx512bf16,+amx-tile,+amx-bf16"
)
ROWS = 83  # whole tiles of AMX, a part of one, and a part of the eight rows of the others


def product(rows: int) -> Floats:
    """What this processor makes of `operands`, with the addend."""
    x, weight, addend, _ = operands(rows)
    panels, out = to_panels(weight), numpy.zeros((rows, PANELS * LANES), numpy.float32)
    source = x.ctypes.data, panels.ctypes.data, LENGTH, PANELS
    scratch = numpy.zeros(dot_scratch(LENGTH), numpy.uint8)
    place = out.ctypes.data, out.strides[0], addend.ctypes.data, addend.strides[0], scratch.ctypes.data
    multiply_rounded(int(DotUnit.VECTOR), rows, *source, *place)
    return out


def by_tiles(rows: int) -> Floats:
    """The same by the description of AMX's instruction."""
    x, weight, addend, _ = operands(rows)
    sums = numpy.zeros((len(x), PANELS * LANES), numpy.float32)
    for panel, numbers in enumerate(to_panels(weight)):
        here, pairs = slice(panel * LANES, (panel + 1) * LANES), in_pairs(numbers).reshape(-1, 16, 32)
        for row in range(0, len(x), 16):
            for step, part in enumerate(pairs):
                block = x[row : row + 16, 32 * step : 32 * step + 32]
                sums[row : row + 16, here] = tile_product(block, part, sums[row : row + 16, here])
    result: Floats = sums[:rows] + addend
    return result


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(("unit", "expected"), [("VECTOR", product), ("TILES", by_tiles)])
def test_the_instructions_have_the_bits_that_are_said_of_them(unit: str, expected, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Code for a processor with AVX512-BF16 and AMX, on an emulated one."""
    environment = os.environ | {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": SAPPHIRE_RAPIDS}
    environment |= {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.kernels.dots.emulated_dots", unit, str(ROWS), str(tmp_path / "out.npy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert numpy.array_equal(numpy.load(tmp_path / "out.npy"), expected(ROWS))


def test_the_unit_is_what_the_processor_has() -> None:
    assert dot_unit() in {DotUnit.VECTOR, DotUnit.TILES} if "avx512bf16" in features() else not dot_unit()


def test_a_row_is_the_same_to_the_bit_beside_any_others() -> None:
    whole = product(ROWS)
    x, weight, addend, _ = operands(ROWS)
    panels, scratch = to_panels(weight), numpy.zeros(dot_scratch(LENGTH), numpy.uint8)
    for first, last in ((0, 1), (5, 9), (7, 21), (82, 83)):
        out = numpy.zeros((last - first, PANELS * LANES), numpy.float32)
        source = x[first].ctypes.data, panels.ctypes.data, LENGTH, PANELS
        place = out.ctypes.data, out.strides[0], addend[first].ctypes.data, addend.strides[0], scratch.ctypes.data
        multiply_rounded(int(DotUnit.VECTOR), last - first, *source, *place)
        assert numpy.array_equal(out, whole[first:last])


@pytest.mark.parametrize(
    ("number", "bits"),
    [
        (numpy.nan, 0x7FC0), (numpy.inf, 0x7F80), (-numpy.inf, 0xFF80), (3.3e38, 0x7F78), (3.4e38, 0x7F80),
        (1 + 2**-8, 0x3F80), (1 + 3 * 2**-8, 0x3F82), (-0.0, 0x8000), (1e-40, 0x0001),
    ],
)  # fmt: skip
def test_numbers_at_the_bounds_are_rounded(number: float, bits: int) -> None:
    """A model whose weights are broken must not answer as if they were not."""
    row, out = numpy.full(LANES, number, numpy.float32), numpy.zeros(LANES, numpy.uint16)
    round_rows(row.ctypes.data, row.nbytes, out.ctypes.data, LANES, 0, 1)
    assert [*map(hex, out)] == [hex(bits)] * LANES


def test_a_nan_with_low_bits_stays_one() -> None:
    row, out = numpy.full(LANES, 0x7F800001, numpy.uint32), numpy.zeros(LANES, numpy.uint16)
    round_rows(row.ctypes.data, row.nbytes, out.ctypes.data, LANES, 0, 1)
    assert numpy.isnan(wide(out)).all()


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("rows", [1, 17, 53])
def test_training_multiplies_rounded_rows_and_gradients(rows: int, back: bool) -> None:
    """LoRA beside the frozen matrix stays as it is."""
    lora = Lora.of(rows, (rows, LANES), back, Number.BFLOAT16, ins=2 * WHOLE)
    args, matrix, parts = lora.args, lora.matrix, records(*lora.parts)
    ins, outs = lora.weight.shape[1], lora.weight.shape[0]
    room = numpy.zeros((-(-rows // LANES) * LANES, max(ins, outs)), numpy.uint16)
    scratch = numpy.zeros(max(args["scratch"].size, dot_scratch(max(ins, outs)) // 4), numpy.float32)
    args.set(dots=int(DotUnit.VECTOR), rounded=room, scratch=scratch)
    lora.repack()
    outputs, inputs = numpy.zeros_like(lora.grad), numpy.zeros_like(lora.x)
    x, grad = lora.x.ctypes.data, lora.grad.ctypes.data
    linear.prepare(args.one, counter(), matrix.one, x)
    linear.linear(args.one, counter(), 0, matrix.one, parts, x, outputs.ctypes.data, grad, lora.scratch)
    expected = rounded(lora.x) @ wide(lora.weight).T + matrix["bias"] + lora.grad
    for index in range(2):
        expected[:, lora.columns(index)] += lora.lora_hidden()[:, lora.hidden(index)] @ wide(lora.b[index]).T
    close(outputs, expected)
    linear.lora_back(args.one, counter(), matrix.one, parts, grad, lora.scratch)
    linear.linear_back(args.one, counter(), 0, matrix.one, parts, grad, x, inputs.ctypes.data, lora.scratch)
    hidden, expected = lora.grad_lora_hidden(), rounded(lora.grad) @ wide(lora.weight)
    for index in range(2):
        expected += hidden[:, lora.hidden(index)] @ wide(lora.a[index])
    close(inputs, expected)


@pytest.mark.parametrize("rows", [1, 17, 53])
def test_serving_multiplies_rounded_rows(rows: int) -> None:
    """The output layer, which is no adapter's (-1), has exact products."""
    random, ins, none = numpy.random.default_rng(rows), 2 * WHOLE, numpy.zeros((0, SEGMENT_COLUMNS), numpy.int64)
    linears = Linears.of(random, rows, ins, (LANES, LANES))
    room = numpy.zeros((-(-rows // LANES) * LANES, ins), numpy.uint16)
    gates = numpy.zeros((rows, linears.columns), numpy.float32)
    args = Record(STEP_ARGS, rows=rows, dots=int(DotUnit.VECTOR), rounded=room, gate_up=gates, inner_panels=1)
    matrix, x, stride = linears.matrix(Number.BFLOAT16, 1), linears.x, linears.x.strides[0]
    args.set(hidden_stride=stride)
    scratch = numpy.zeros(dot_scratch(ins), numpy.uint8)
    serving_linear.prepare(args.one, counter(), none, 0, x.ctypes.data, ins, stride)
    assert numpy.array_equal(room[:rows], to_bfloat16(x))
    for index, source in ((0, rounded(x)), (-1, x)):
        out = normal(random, rows, linears.columns)
        place, expected = (out.ctypes.data, out.strides[0]), linears.product(Number.BFLOAT16, 1, source) + out
        given = args.one, counter(), 2, rows, none, index, matrix.one, x.ctypes.data, stride
        serving_linear.linear(*given, *place, 1, scratch.ctypes.data)
        close(out, expected)
    serving_linear.gate_up(args.one, counter(), 2, none, 0, matrix.one, x.ctypes.data, scratch.ctypes.data)
    both = linears.product(Number.BFLOAT16, 1, rounded(x))
    close(gates[:, :LANES], silu(both[:, :LANES]) * both[:, LANES:])


def close(got: Floats, expected: Floats) -> None:
    scale = numpy.abs(expected).max()
    numpy.testing.assert_allclose(got / scale, expected / scale, rtol=0, atol=2e-5)
