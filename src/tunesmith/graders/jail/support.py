"""What the jail needs of the kernel, and the sentences that name what is missing."""

import json
import sys

from tunesmith.graders.jail import kernel, landlock
from tunesmith.graders.jail.frames import Answer
from tunesmith.graders.jail.syscalls import ARCHITECTURES, machine

# Tries a little of everything that the walls hold back; each line that succeeds is a hole.
TEST = """
import colorsys  # one that is not loaded yet: the library can be read
import ctypes, os, resource, socket, threading

class Hole(Exception): pass

def holes():
    tries = {
        "it read /etc/passwd": lambda: open("/etc/passwd"),
        "it listed the root": lambda: os.listdir("/"),
        "it wrote beside its folder": lambda: open(os.path.join(os.path.dirname(os.__file__), "x"), "w"),
        "it forked": lambda: os.fork() or os._exit(0),
        "it opened a socket": lambda: socket.socket(socket.AF_UNIX),
        "it raised a limit": lambda: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1)),
        "it took more memory than it may": lambda: bytearray(resource.getrlimit(resource.RLIMIT_AS)[0]),
        "it made shared memory": lambda: os.memfd_create("x"),
        "it executed a program": lambda: os.execv("/bin/true", ["true"]),
        "it started 200 threads": threads,
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except (OSError, MemoryError, RuntimeError, ValueError):
            continue
        yield name

def threads():
    threading.stack_size(32768)
    end = threading.Event()
    started = []
    try:
        for _ in range(200):
            started.append(threading.Thread(target=end.wait))
            started[-1].start()
    finally:
        end.set()

def grade(sample, item):
    found = list(holes())
    if found:
        raise Hole(", ".join(found))
    return 1.0
"""


def verdict(answer: Answer) -> str | None:
    """What the answer to `own_test` says against the jail; None where it holds."""
    if answer.kind == "score" and answer.score == 1.0:
        return None
    told = answer.text.partition("\n")[0]
    found = "found a hole" if told.startswith("Hole") else "failed"
    return f"the jail's own test {found}: {told}"


def own_test() -> bytes:
    """A request whose grader tries to leave the jail, and scores 1 where it cannot."""
    return json.dumps({"source": TEST, "sample": {}, "item": {}}).encode()


def kernel_lacks() -> str | None:
    """What can be told without building a jail; None where nothing is missing so far."""
    if sys.platform != "linux":
        return "they need Linux"
    if machine() not in ARCHITECTURES:
        return f"the jail's list of system calls is for {' and '.join(ARCHITECTURES)}, not for {machine()}"
    if not kernel.has_seccomp():
        return "this kernel, or the container, has no seccomp filters (CONFIG_SECCOMP_FILTER)"
    try:
        landlock.version()
    except OSError as error:
        return (
            f"this kernel, or the container, has no Landlock ({error.strerror}); it is in Linux from 5.13 on, with"
            " `landlock` in the list of /sys/kernel/security/lsm"
        )
    return None


def sentence(fault: str) -> str:
    """What is missing where a step of building the jail failed with `fault`."""
    name = fault.partition(":")[0]
    if name == "unshare(user)" or "uid_map" in fault:
        return (
            f"this user may not make user namespaces ({fault}); see the sysctls user.max_user_namespaces and"
            " kernel.unprivileged_userns_clone, and the container's seccomp profile"
        )
    if name.startswith(("unshare", "mount", "pivot_root", "umount2")):
        return (
            f"a user namespace gives no rights here ({fault}); see the sysctl"
            " kernel.apparmor_restrict_unprivileged_userns, and the container's seccomp profile"
        )
    return fault
