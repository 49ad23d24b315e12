"""The process that the jail's processes are forked from.

It has loaded Python's library, and knows nothing else.

`python -P -m tunesmith.graders.jail.zygote DESCRIPTOR`, with an empty environment. DESCRIPTOR is a socket to the
server; the messages are listed in `process.py`. It lives in namespaces of its own as their first process: when it ends,
the kernel ends whatever is in them.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
import sysconfig
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from tunesmith.graders.jail import child, kernel, root, seccomp
from tunesmith.graders.jail.syscalls import machine

PRELOADED = (
    *("ast", "bisect", "collections", "copy", "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib"),
    *("enum", "fractions", "functools", "hashlib", "heapq", "html", "inspect", "io", "itertools", "json", "logging"),
    *("math", "numbers", "operator", "random", "re", "statistics", "string", "tempfile", "textwrap", "threading"),
    *("time", "traceback", "typing", "unicodedata", "encodings.idna"),
)
ALSO_PRELOADED = "numpy"  # where it is installed: 100 ms of its import are not paid by each call
KILLED_FIRST = "1000"  # when the machine runs out of memory
MESSAGE = 256  # bytes


def main() -> None:
    """Enters the namespaces and serves until the socket is closed."""
    server = socket.socket(fileno=int(sys.argv[1]))
    try:
        _enter_namespaces(server)
        if os.fork():
            server.close()
            os.wait()
            os._exit(0)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        libraries = root.library_paths()
        _preload()
        root.enter(libraries)
        kernel.drop_bounding_set()
        seccomp.prepare(machine())
    except OSError as error:
        server.send(f"fault {error.strerror or error}"[:MESSAGE].encode())
        os._exit(1)
    server.send(b"ready")
    while _serve_one(server, libraries):
        pass
    os._exit(0)


def _enter_namespaces(server: socket.socket) -> None:
    os.umask(0o022)  # a server's own may be stricter, and the jail's user must reach its library
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(KILLED_FIRST, "ascii")
    kernel.unshare("user")
    server.send(b"maps")
    server.recv(MESSAGE)
    for namespace in ("mount", "network", "ipc", "uts", "cgroup", "pid"):
        kernel.unshare(namespace)
    socket.sethostname("jail")


def _preload() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    if find_spec(ALSO_PRELOADED) is not None:
        importlib.import_module(ALSO_PRELOADED)
    own = os.environ.pop("PYTHONPATH", "")  # where our own source lies: not for graders
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    sys.path = [path for path in sys.path if path != own or path in libraries]
    gc.collect()
    gc.freeze()  # so that a collection in a child copies no page of what stands here


def _serve_one(server: socket.socket, libraries: list[str]) -> bool:
    """Forks one process, waits for its end and tells how it ended. False when the server has gone."""
    message, descriptors, _, _ = socket.recv_fds(server, MESSAGE, 2)
    if not message:
        return False
    memory, seconds, user = (int(number) for number in message.split())
    process = os.fork()
    if not process:
        server.close()
        _place(descriptors)
        child.run(child.Limits(memory, seconds, user), libraries)
    for descriptor in descriptors:
        os.close(descriptor)
    handle = os.pidfd_open(process)
    try:
        socket.send_fds(server, [b"forked"], [handle])
        return _await_end(server, process, handle)
    finally:
        os.close(handle)


def _place(descriptors: list[int]) -> None:
    """The two pipes as 3 and 4, and no other descriptor."""
    high = [os.dup2(descriptor, 100 + index) for index, descriptor in enumerate(descriptors)]
    os.dup2(high[0], child.REQUEST)
    os.dup2(high[1], child.ANSWER)
    null = os.open(root.NULL, os.O_RDWR)  # opened anew: flags of an open file are shared by all who inherit it
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(child.ANSWER + 1, os.sysconf("SC_OPEN_MAX"))


def _await_end(server: socket.socket, process: int, handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(server, 0)  # its end only
    events = dict(poll.poll())
    if handle not in events:
        return False
    _, status = os.waitpid(process, 0)
    server.send(f"ended {os.waitstatus_to_exitcode(status)}".encode())
    return True


if __name__ == "__main__":
    main()
