"""Compiled functions that are written in LLVM's code: what Python cannot express.

`intrinsic` makes one of a function that emits its code. Here are those of single instructions and addresses; `tiles`,
`int4_tiles`, `vectors` and `rounding` have the long ones.
"""

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic

if TYPE_CHECKING:
    NumbaObject: TypeAlias = Any  # Numba's own objects, which are untyped
    Values: TypeAlias = Sequence[ir.Value]
    Body: TypeAlias = Callable[[ir.IRBuilder, Values], ir.Value | None]

_I64, _I32, _BYTE, _F32 = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.FloatType()


def intrinsic(signature: "NumbaObject", body: "Body") -> object:
    """A function of this signature, for compiled code.

    `body` emits its code from the builder and the arguments, and returns its value if it has one. The code stands in
    the caller's.
    """

    def typed(_typing: "NumbaObject", *arguments: "NumbaObject") -> "NumbaObject":
        def emit(
            context: "NumbaObject", builder: ir.IRBuilder, _signature: "NumbaObject", values: "Values"
        ) -> ir.Value:
            made = body(builder, values)
            return context.get_dummy_value() if made is None else made

        return (signature, emit) if len(arguments) == len(signature.args) else None

    names = ["typing", *(f"argument_{index}" for index in range(len(signature.args)))]  # Numba asks how many there are
    typed.__signature__ = Signature(  # type: ignore[attr-defined]  # as inspect.signature looks for it
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return cast(object, numba_intrinsic(typed))


def of_addresses(count: int, body: "Body") -> object:
    """A function of so many addresses and sizes, without a value."""
    return intrinsic(types.void(*[types.intp] * count), body)


def prefetch_line(builder: ir.IRBuilder, place: ir.Value) -> None:
    """Asks for the cache line at an address, which need not be valid."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _I32, _I32, _I32]), "llvm.prefetch.p0"
    )
    builder.call(function, [place, *(ir.Constant(_I32, number) for number in (0, 3, 1))])


def _prefetch(builder: ir.IRBuilder, arguments: "Values") -> None:
    prefetch_line(builder, builder.inttoptr(arguments[0], _BYTE.as_pointer()))


def _pointer(builder: ir.IRBuilder, arguments: "Values") -> ir.Value:
    return builder.inttoptr(arguments[0], _F32.as_pointer())


def _table_pointer(builder: ir.IRBuilder, arguments: "Values") -> ir.Value:
    return builder.inttoptr(arguments[0], _I64.as_pointer())


def _from_bits(builder: ir.IRBuilder, arguments: "Values") -> ir.Value:
    return builder.bitcast(builder.trunc(arguments[0], _I32), _F32)


def _atomic_add(builder: ir.IRBuilder, arguments: "Values") -> ir.Value:
    return builder.atomic_rmw("add", _table_pointer(builder, arguments), arguments[1], "seq_cst")


def _atomic_read(builder: ir.IRBuilder, arguments: "Values") -> ir.Value:
    return builder.load_atomic(_table_pointer(builder, arguments), "seq_cst", 8)


def _atomic_write(builder: ir.IRBuilder, arguments: "Values") -> None:
    builder.store_atomic(arguments[1], _table_pointer(builder, arguments), "seq_cst", 8)


prefetch = cast(Callable[[int], None], of_addresses(1, _prefetch))
"""Asks for the cache line at an address, which need not be valid."""
pointer = cast(Callable[[int], Any], intrinsic(types.CPointer(types.float32)(types.intp), _pointer))
"""An address as a pointer to float32, for `numba.carray`."""
table_pointer = cast(Callable[[int], Any], intrinsic(types.CPointer(types.int64)(types.intp), _table_pointer))
"""An address as a pointer to int64."""
from_bits = cast(Callable[[int], float], intrinsic(types.float32(types.int64), _from_bits))
"""The float32 with these 32 bits."""
atomic_add = cast(Callable[[int, int], int], intrinsic(types.int64(types.intp, types.int64), _atomic_add))
"""Adds to the int64 at an address; returns what was there before."""
atomic_read = cast(Callable[[int], int], intrinsic(types.int64(types.intp), _atomic_read))
"""The int64 at an address."""
atomic_write = cast(Callable[[int, int], None], intrinsic(types.void(types.intp, types.int64), _atomic_write))
"""Sets the int64 at an address."""
