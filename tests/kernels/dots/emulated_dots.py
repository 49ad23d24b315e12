"""Products by the code of a Sapphire Rapids, on the emulator: what `test_dots.py` compares.

Run with `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` of that processor, which this one cannot run: (unit, rows, file).
"""

import sys
from pathlib import Path

import numpy
from numba import int64
from tests.kernels.cases.dot_cases import LENGTH, PANELS, operands
from tests.kernels.dots.emulator import Emulator
from tests.kernels.reference import to_panels

from tunesmith.kernels.dots.products import dot_scratch, multiply_rounded
from tunesmith.kernels.dots.unit import HAS_TILES, HAS_VECTOR, DotUnit
from tunesmith.kernels.vectors import LANES


def address_of(kernel: object, arguments: int) -> int:
    """Where the machine code of a compiled function of integers is."""
    kernel.compile((int64,) * arguments)  # type: ignore[attr-defined]
    made = next(iter(kernel.overloads.values()))  # type: ignore[attr-defined]
    return int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))


def main(unit: DotUnit, rows: int, target: Path) -> None:
    assert HAS_VECTOR
    assert HAS_TILES
    x, weight, addend, _ = operands(rows)
    panels, out = to_panels(weight), numpy.zeros((rows, PANELS * LANES), numpy.float32)
    scratch, result = numpy.zeros(dot_scratch(LENGTH), numpy.uint8), numpy.zeros(8)
    arguments = [int(unit), rows, x.ctypes.data, panels.ctypes.data, LENGTH, PANELS]
    for array in (out, addend):
        arguments += [array.ctypes.data, array.strides[0]]
    address, kept = address_of(multiply_rounded, 11), [result.ctypes.data] * 2  # where Numba's results go
    assert Emulator().call(address, *kept, *arguments, scratch.ctypes.data) == 0
    numpy.save(target, out)


if __name__ == "__main__":
    main(DotUnit[sys.argv[1]], int(sys.argv[2]), Path(sys.argv[3]))
