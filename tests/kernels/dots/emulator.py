"""Machine code of this process on an emulated processor: one that has what this machine's has not.

Bochs (the wheel bochscpu-python) runs a function as a Sapphire Rapids would, with AVX-512 and AVX512-BF16. A page that
the code touches is shared with it when it is touched first. The wheel lacks AMX: its six instructions are carried out
here, by Intel's description of them (Software Developer's Manual, TDPBF16PS).
"""

import ctypes
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

MODEL = b"cpu.model"
SAPPHIRE_RAPIDS = 30  # of Bochs' list of models
PAGE, FIRST_FRAME = 4096, 1 << 21
TABLES, TABLES_APART = 1 << 30, 1 << 24  # tables of pages
STACK_BYTES = 1 << 20
REGISTERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")  # of the first arguments
INDEXED = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{index}" for index in range(8, 16)))
PAGE_FAULT, NO_INSTRUCTION = 14, 6
FETCH = 16  # in a page fault's code: an instruction was to be read
# The wheel is linked with a newer C library than Debian 12 has, for two functions that differ in binary literals only.
SHIM = """
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
unsigned long long __isoc23_strtoull(const char *text, char **end, int base) { return strtoull(text, end, base); }
int __isoc23_sscanf(const char *text, const char *format, ...) {
  va_list list; va_start(list, format); int count = vsscanf(text, format, list); va_end(list); return count;
}
"""


def why_not() -> str:
    """Why there is no emulator here; empty where there is one."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the emulator is for Linux on x86-64"
    if importlib.util.find_spec("bochscpu") is None:
        return "bochscpu-python is not installed"
    return "" if shutil.which("cc") else "there is no C compiler"


def _bochs() -> Any:
    """The package, with the model of a Sapphire Rapids."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", str(library)], input=SHIM, text=True, check=True)
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    import bochscpu
    import bochscpu.memory

    inner = ctypes.CDLL(sys.modules["bochscpu._bochscpu"].__file__)
    inner.sim_get_param_enum.restype = ctypes.c_void_p
    model = ctypes.c_void_p(inner.sim_get_param_enum(MODEL))
    inner._ZN15bx_param_enum_c3setEl(model, ctypes.c_long(SAPPHIRE_RAPIDS))
    return bochscpu


class Emulator:
    """Runs functions of this process, which must not call the system."""

    def __init__(self) -> None:
        self._bochs = _bochs()
        self._frames: dict[int, int] = {}
        self._made = TABLES
        self._kept: list[object] = []  # tables that the processor may still read
        self._stack = numpy.zeros(STACK_BYTES, numpy.uint8)
        self._end = numpy.full(16, 0xF4, numpy.uint8)  # hlt
        self._tiles = Tiles()
        self.instructions = 0

    def call(self, address: int, *arguments: int) -> int:
        """Calls a function of integers; returns what it returns."""
        state = self._start(address, arguments)
        while state.rip != self._end.ctypes.data:
            state, vector = self._run(state)
            if vector == PAGE_FAULT:
                self._share(state.cr2)
                state.cr3 = self._tables()
            elif vector == NO_INSTRUCTION:
                state.rip += self._tiles.carry_out(state)
            elif vector is not None:
                raise RuntimeError(f"exception {vector} at {state.rip:#x}")
        return int(state.rax)

    def _start(self, address: int, arguments: tuple[int, ...]) -> Any:
        bochs = self._bochs
        state = bochs.State()
        state.cr0, state.cr4, state.efer = 0x80050033, 0x406E8, 0xD01  # 64 bits, with pages and XSAVE
        state.xcr0 = 0xE7
        state.rflags, state.mxcsr, state.mxcsr_mask = 2, 0x1F80, 0xFFFF
        for name, attributes in {"cs": 0xA09B, **dict.fromkeys(("ds", "es", "ss", "fs", "gs"), 0xC093)}.items():
            segment = bochs.Segment()
            segment.present, segment.selector, segment.limit, segment.attr = True, 0x10, 0xFFFFFFFF, attributes
            setattr(state, name, segment)
        on_stack = [self._end.ctypes.data, *arguments[len(REGISTERS) :]]
        top = (self._stack.ctypes.data + STACK_BYTES - PAGE) // 64 * 64 - 8  # the stack is even before the call
        (ctypes.c_int64 * len(on_stack)).from_address(top)[:] = on_stack  # type: ignore[assignment]
        state.rsp, state.rip = top, address
        for register, value in zip(REGISTERS, arguments, strict=False):
            setattr(state, register, value & (1 << 64) - 1)
        for place in (address, top, self._end.ctypes.data):
            if place // PAGE * PAGE not in self._frames:
                self._share(place)
        state.cr3 = self._tables()
        return state

    def _run(self, state: Any) -> tuple[Any, int | None]:
        """Goes on until the function's end, or an exception."""
        session, places = self._bochs.Session(), [state.rip]
        stopped: list[tuple[Any, int | None]] = []
        session.missing_page_handler = _missing
        session.cpu.state = state
        hook = self._bochs.Hook()

        def exception(here: Any, _cpu: int, vector: int, code: int) -> None:
            state = here.cpu.state
            if not (vector == PAGE_FAULT and code & FETCH):
                state.rip = places[0]  # it is behind the instruction already
            stopped.append((state, vector))
            here.stop()

        def step(here: Any, _cpu: int, _instruction: int) -> None:
            self.instructions += 1
            places[0] = here.cpu.rip
            if here.cpu.rip == self._end.ctypes.data:
                stopped.append((here.cpu.state, None))
                here.stop()

        hook.exception, hook.before_execution = exception, step
        session.run([hook])
        state, vector = stopped[0]
        return state, vector

    def _share(self, address: int) -> None:
        """Shares the page at an address."""
        page = address // PAGE * PAGE
        if page in self._frames:
            raise RuntimeError(f"no access to {address:#x}")
        frame = self._frames[page] = FIRST_FRAME + PAGE * len(self._frames)
        self._bochs.memory.page_insert(frame, page)

    def _tables(self) -> int:
        """Where new tables of the shared pages are."""
        self._made += TABLES_APART
        table = self._bochs.memory.PageMapLevel4Table()
        for page, frame in self._frames.items():
            table.insert(page, frame, 1)
        for host, guest in table.commit(self._made):
            self._bochs.memory.page_insert(guest, host)
        self._kept.append(table)
        return self._made


def _missing(frame: int) -> None:
    raise RuntimeError(f"no page for {frame:#x}")


class Tiles:
    """AMX: eight tiles of 16 rows of 64 bytes, and the instructions on them."""

    def __init__(self) -> None:
        self._configured = False
        self._tiles = numpy.zeros((8, 16, 64), numpy.uint8)

    def carry_out(self, state: Any) -> int:
        """Carries out the instruction at `rip`; returns its length."""
        code = bytes((ctypes.c_uint8 * 16).from_address(state.rip))
        if code[0] != 0xC4 or code[1] & 0x1F != 2 or code[2] & 0x84:
            raise RuntimeError(f"no instruction: {code.hex(' ')}")
        prefix, opcode, modrm = code[2] & 3, code[3], code[4]
        tile = modrm >> 3 & 7
        if (prefix, opcode) == (0, 0x49):
            if modrm == 0xC0:  # TILERELEASE
                self._configured = False
                return 5
            place, length = _memory(state, code)
            self._configure(place)
            return length
        assert self._configured, "no configuration of tiles"
        if (prefix, opcode) == (3, 0x49):  # TILEZERO
            self._tiles[tile] = 0
            return 5
        if (prefix, opcode) == (2, 0x5C):  # TDPBF16PS
            self._multiply(tile, modrm & 7, 15 - (code[2] >> 3 & 15))
            return 5
        (place, length), stride = _memory(state, code), _register(state, _index(code))
        rows = [(ctypes.c_uint8 * 64).from_address(place + row * stride) for row in range(16)]
        if (prefix, opcode) == (3, 0x4B):  # TILELOADD
            self._tiles[tile] = [list(row) for row in rows]
        elif (prefix, opcode) == (2, 0x4B):  # TILESTORED
            for row, numbers in zip(rows, self._tiles[tile], strict=True):
                row[:] = numbers.tolist()
        else:
            raise RuntimeError(f"no instruction: {code.hex(' ')}")
        return length

    def _configure(self, place: int) -> None:
        table = bytes((ctypes.c_uint8 * 64).from_address(place))
        assert table[0] == 1
        assert numpy.frombuffer(table[16:32], numpy.uint16).tolist() == [64] * 8
        assert list(table[48:56]) == [16] * 8
        assert not any(table[1:16] + table[32:48] + table[56:])
        self._configured, self._tiles[:] = True, 0

    def _multiply(self, target: int, one: int, other: int) -> None:
        """Both inputs of the pairs are summed apart, and their sums are added at the end."""
        self._tiles[target] = tile_product(
            self._tiles[one].view(numpy.uint16), self._tiles[other].view(numpy.uint16), self._tiles[target].view("f4")
        ).view(numpy.uint8)


def tile_product(
    x: NDArray[numpy.uint16], pairs: NDArray[numpy.uint16], addend: NDArray[numpy.float32]
) -> NDArray[numpy.float32]:
    """What TDPBF16PS makes of 16 rows of 32 numbers and 16 rows of 16 pairs."""
    factors, weights = ((part.reshape(16, 16, 2).astype(numpy.uint32) << 16).view(numpy.float32) for part in (x, pairs))
    sums = numpy.zeros((2, 16, 16), numpy.float32)
    for k in range(16):
        for which in range(2):
            sums[which] += factors[:, k, which, None] * weights[None, k, :, which]
    result: NDArray[numpy.float32] = addend + (sums[0] + sums[1])
    return result


def _register(state: Any, index: int) -> int:
    value = int(getattr(state, INDEXED[index]))
    return value - (1 << 64) if value >> 63 else value


def _index(code: bytes) -> int:
    """The index register of the address: of tiles the distance of rows."""
    return code[5] >> 3 & 7 | (8 if not code[1] & 0x40 else 0)


def _memory(state: Any, code: bytes) -> tuple[int, int]:
    """The address of a memory operand without its index, and the instruction's length."""
    high = 8 if not code[1] & 0x20 else 0
    mode, base, length = code[4] >> 6, code[4] & 7 | high, 5
    if code[4] & 7 == 4:
        base, length = code[5] & 7 | high, 6
    assert mode < 3, "a register"
    if mode == 0 and base & 7 == 5:
        raise RuntimeError(f"an address that is not told apart: {code.hex(' ')}")
    size = (0, 1, 4)[mode]
    displacement = int.from_bytes(code[length : length + size], "little", signed=True) if size else 0
    return _register(state, base) + displacement, length + size
