"""A filter for system calls: what is not on the list fails with EPERM.

Classic BPF over `struct seccomp_data` (`linux/seccomp.h`). Arguments have 64 bits, which are compared by halves.

Not covered: what the allowed calls do to files, which is Landlock's part and the file tree's.
"""

import ctypes
import errno
import struct
from functools import cache

from tunesmith.graders.jail import kernel
from tunesmith.graders.jail.syscalls import ALLOWED, AUDIT_ARCH, number

LOAD, EQUAL, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000  # FAIL: and an errno
NUMBER, ARCHITECTURE = 0, 4  # where they stand
X32 = 0x40000000

# A new thread, exactly as glibc and musl make one: no process, no namespace.
THREAD_FLAGS = (0x003D0F00, 0x007D0F00)
NAMES_OF_THREADS = (15, 16)  # PR_SET_NAME, PR_GET_NAME
TERMINAL_QUESTIONS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONCLEX, FIOCLEX
DESCRIPTOR_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
# Shared memory without a file outlives its mapping piece by piece, so no limit of address space would hold it.
SHARED_ANONYMOUS = 0x21

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def install(process: int, architecture: str) -> None:
    """Filters this thread's calls, and those of the threads that it starts, for good.

    `process`: its own id, the only one that it may send a signal to.
    """
    instructions = program(process, architecture)
    held = ctypes.create_string_buffer(instructions, len(instructions))
    described = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(held))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_SECCOMP, kernel.SECCOMP_MODE_FILTER, ctypes.c_char_p(described))


def program(process: int, architecture: str) -> bytes:
    """The filter's instructions, of 8 bytes each."""
    return _allowed(architecture) + _packed(_rest(process, architecture))


@cache  # the zygote's: the same for all of its children
def _allowed(architecture: str) -> bytes:
    """The filter's first part: the calls that are allowed whatever their arguments."""
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, AUDIT_ARCH[architecture]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, FAIL | errno.EPERM),
    ]
    for name in ALLOWED:
        called = number(name, architecture)
        if called is not None:
            program += [(EQUAL, 0, 1, called), (RETURN, 0, 0, ALLOW)]
    return _packed(program)


def prepare(architecture: str) -> None:
    """Makes what all filters of this process and its children have in common."""
    _allowed(architecture)


def _rest(process: int, architecture: str) -> list[Instruction]:
    """The filter's second part: calls whose arguments count, and the end of the list."""
    program: list[Instruction] = []
    for name, rule in _judged(process).items():
        called = number(name, architecture)
        if called is not None:
            program += [(EQUAL, 0, len(rule), called), *rule]
    return [*program, (RETURN, 0, 0, FAIL | errno.EPERM)]


def _packed(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def _judged(process: int) -> dict[str, list[Instruction]]:
    """Rules of calls whose arguments count; each ends with a return."""
    return {
        "clone": _only(0, THREAD_FLAGS),
        "clone3": [(RETURN, 0, 0, FAIL | errno.ENOSYS)],  # its flags lie in memory; libraries then call `clone`
        "mmap": [
            (LOAD, 0, 0, _low(3)),
            (AND, 0, 0, SHARED_ANONYMOUS),
            (EQUAL, 1, 0, SHARED_ANONYMOUS),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, FAIL | errno.EPERM),
        ],
        "tgkill": _only(0, (process,)),
        "kill": _only(0, (process,)),
        "prctl": _only(0, NAMES_OF_THREADS),
        "ioctl": _only(1, TERMINAL_QUESTIONS),
        "fcntl": _only(1, DESCRIPTOR_COMMANDS),
        "prlimit64": [*_demand(0, (0, process)), *_demand(2, (0,)), *_zero_high(2), (RETURN, 0, 0, ALLOW)],
    }


def _only(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    return [*_demand(argument, values), (RETURN, 0, 0, ALLOW)]


def _demand(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Goes on where the low half is one of `values`, the only half that the kernel reads of such arguments."""
    tests = [(EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [(LOAD, 0, 0, _low(argument)), *tests, (RETURN, 0, 0, FAIL | errno.EPERM)]


def _zero_high(argument: int) -> list[Instruction]:
    return [(LOAD, 0, 0, _low(argument) + 4), (EQUAL, 1, 0, 0), (RETURN, 0, 0, FAIL | errno.EPERM)]


def _low(argument: int) -> int:
    return 16 + 8 * argument
