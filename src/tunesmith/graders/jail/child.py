"""One call in the jail: the walls, then the request, then the user's code.

The walls stand before a byte of the request is read, and each call has a process of its own, so nothing of one call is
in the memory of the next.
"""

import json
import math
import os
import resource
import sys
import types
from dataclasses import dataclass

from tunesmith.graders.jail import frames, kernel, landlock, seccomp
from tunesmith.graders.jail.faults import told
from tunesmith.graders.jail.root import FOLDER, NULL, RANDOM
from tunesmith.graders.jail.source import WrongSource, check_source
from tunesmith.graders.jail.syscalls import machine

REQUEST, ANSWER = 3, 4  # the only descriptors beside the three of every process, which are /dev/null
FOLDER_BYTES = 64 * 1024 * 1024
FOLDER_FILES = 4096
DESCRIPTORS = 64
TASKS = 64 + 4  # threads, and the few processes of the jail itself
NICE = 5  # below the server that answers chats
MODULE = "grader"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may take.

    Bytes of memory, seconds of processor time; `user` is who it runs as.
    """

    memory: int
    processor_seconds: int
    user: int


def run(limits: Limits, libraries: list[str]) -> None:
    """Stands behind the walls, answers one request and never returns."""
    try:
        _build_walls(limits, libraries)
    except BaseException as error:
        told = getattr(error, "strerror", None) or str(error)  # without the path, which is of this machine
        os.write(ANSWER, frames.NO_JAIL + f"{type(error).__name__}: {told}".encode())
        os._exit(1)
    os.write(ANSWER, frames.READY)
    request = frames.read_request(REQUEST)
    os.close(REQUEST)
    if request is not None:
        kind, payload = _answer(request)
        frames.write_answer(ANSWER, kind, payload)
    os._exit(0)


def _build_walls(limits: Limits, libraries: list[str]) -> None:
    kernel.unshare("mount")
    options = f"size={FOLDER_BYTES},nr_inodes={FOLDER_FILES},mode=0777"
    kernel.mount("tmpfs", FOLDER, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)
    os.chdir(FOLDER)
    if os.getuid() != limits.user:
        os.setgroups([])
        os.setresgid(limits.user, limits.user, limits.user)
        os.setresuid(limits.user, limits.user, limits.user)
    kernel.clear_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    _limit(limits)
    os.nice(NICE)
    rights = dict.fromkeys(libraries, landlock.READ)
    files = {path for path in libraries if not os.path.isdir(path)}  # noqa: PTH112
    rights |= dict.fromkeys(files, landlock.READ_FILE)
    devices = {NULL: landlock.READ_FILE | landlock.WRITE_FILE, RANDOM: landlock.READ_FILE}
    landlock.restrict({**rights, **devices, FOLDER: landlock.CHANGE})
    seccomp.install(os.getpid(), machine())


def _limit(limits: Limits) -> None:
    most = {
        resource.RLIMIT_AS: limits.memory,
        resource.RLIMIT_CPU: limits.processor_seconds,
        resource.RLIMIT_FSIZE: FOLDER_BYTES,
        resource.RLIMIT_NOFILE: DESCRIPTORS,
        resource.RLIMIT_NPROC: TASKS,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: DESCRIPTORS,
    }
    for kind, value in most.items():
        resource.setrlimit(kind, (value, value))


def _answer(request: bytes) -> tuple[bytes, bytes]:
    try:
        asked = json.loads(request)
        code = check_source(asked["source"])
        score = _grade(code, asked["sample"], asked["item"]) if "sample" in asked else 0.0
    except WrongSource as error:
        return frames.WRONG_SOURCE, str(error).encode("utf-8", "replace")
    except BaseException as error:  # SystemExit, KeyboardInterrupt and whatever the code made up
        return frames.FAULT, told(error).encode("utf-8", "replace")
    return frames.SCORE, frames.DOUBLE.pack(score)


def _grade(code: types.CodeType, sample: object, item: object) -> float:
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    exec(code, module.__dict__)  # noqa: S102 - this is what the jail is for
    return _number(module.__dict__["grade"](sample, item))


def _number(value: object) -> float:
    """The score that `grade` returned: a finite float, an int, or one of numpy's scalars.

    True and False are none, as in the answers of models that grade. TypeError or ValueError.
    """
    if isinstance(value, float):
        number = float.__float__(value)  # what is stored, whatever a subclass says of itself
    elif type(value) is int:
        number = _converted(value)
    elif type(value).__module__ == "numpy" and hasattr(value, "item"):
        plain = value.item()
        return _number(plain if type(plain) in (int, float, bool) else repr(plain))
    else:
        raise TypeError(f"grade returned a value of type {type(value).__name__}; it must return a finite float")
    if not math.isfinite(number):
        raise ValueError(f"grade returned {number}; it must return a finite float")
    return number


def _converted(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("grade returned a whole number too large for a float") from None
