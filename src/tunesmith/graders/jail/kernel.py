"""System calls that Python's own library has no functions for.

Each raises OSError with the call's name, so that the error says what the kernel refused.
"""

import ctypes
import errno
import os

from tunesmith.graders.jail.syscalls import machine, number

NEW_NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION = 0x20080522
LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(namespace: str) -> None:
    """Moves this process into a new namespace of that kind (of pids: its children)."""
    _checked(_libc.unshare(NEW_NAMESPACES[namespace]), f"unshare({namespace})")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    kind_bytes = None if kind is None else kind.encode()
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind_bytes, ctypes.c_ulong(flags), options.encode() or None
    )
    _checked(result, f"mount({kind or 'bind'})")


def detach(target: str) -> None:
    """umount2(2) of a whole tree, at once."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), "umount2")


def add_mount_flags(target: str, flags: int) -> None:
    """mount_setattr(2): sets flags on a whole tree, and clears none."""
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)  # set, clear, propagation, userns
    path = ctypes.c_char_p(os.fsencode(target))
    syscall("mount_setattr", AT_FDCWD, path, AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes))


def pivot_root(folder: str) -> None:
    """Makes `folder`, a mount, the root of all paths.

    Nothing of the old root can be reached.
    """
    os.chdir(folder)
    dot = ctypes.c_char_p(b".")
    syscall("pivot_root", dot, dot)  # the old root now lies over the new one
    detach(".")
    os.chdir("/")


def prctl(option: int, argument: int, pointer: object = 0) -> None:
    """prctl(2) with one or two arguments."""
    third = pointer if pointer else ctypes.c_ulong(0)
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(argument), third, zero, zero), f"prctl({option})")


def drop_bounding_set() -> None:
    """No program that is started from here can have a superuser's rights again."""
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond the kernel's last one
                break
            raise


def clear_capabilities() -> None:
    """Gives up a superuser's rights, for good."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    empty = (ctypes.c_uint32 * 6)()
    syscall("capset", ctypes.byref(header), ctypes.byref(empty))


def has_seccomp() -> bool:
    """Whether the kernel can filter system calls.

    Asked with a filter at no address, which is then a bad address.
    """
    zero = ctypes.c_ulong(0)
    failed = _libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), zero, zero, zero)
    return bool(failed) and ctypes.get_errno() in (errno.EFAULT, errno.EACCES)


def syscall(name: str, *arguments: object) -> int:
    """A system call by its name; numbers are passed as 64 bits."""
    called = number(name, machine())
    if called is None:
        raise OSError(errno.ENOSYS, name)
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return _checked(_libc.syscall(ctypes.c_long(called), *wide), name)


def _checked(result: int, name: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result
