"""Landlock: which files this process may open, as the kernel checks every path.

The second wall behind the file tree of `root.py`: whatever else could be reached cannot be opened. No folder gets the
right to execute. Sources: `linux/landlock.h`, landlock(7).
"""

import ctypes
import os
import struct
from collections.abc import Mapping

from tunesmith.graders.jail import kernel

ASK_VERSION = 1
PATH_BENEATH = 1
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
MAKE_DIR, MAKE_REG, MAKE_SYM, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 12, 1 << 13, 1 << 14
READ = READ_FILE | READ_DIR
CHANGE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE
FILE_RIGHTS = (13, 14, 15, 15, 16)  # how many the versions 1 to 5 know; later ones know as many
NO_LOG = 1  # of denials, from version 7: code in the jail could fill the log of the machine
ALL_NETWORK = 0b11  # bind and connect TCP, from version 4
ALL_SCOPES = 0b11  # abstract sockets and signals, from version 6


def version() -> int:
    """Landlock's version in this kernel. Raises OSError where it is missing or off."""
    return kernel.syscall("landlock_create_ruleset", 0, 0, ASK_VERSION)


def restrict(rights: Mapping[str, int]) -> None:
    """Takes all rights but those given, each on a path and what is beneath it."""
    known = version()
    handled = (1 << FILE_RIGHTS[min(known, len(FILE_RIGHTS)) - 1]) - 1
    network, scopes = ALL_NETWORK if known >= 4 else 0, ALL_SCOPES if known >= 6 else 0
    sizes = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}
    attributes = struct.pack("=QQQ", handled, network, scopes)[: sizes.get(known, 24)]
    ruleset = kernel.syscall("landlock_create_ruleset", ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        for path, allowed in rights.items():
            _add(ruleset, path, allowed & handled)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.syscall("landlock_restrict_self", ruleset, NO_LOG if known >= 7 else 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: str, allowed: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", allowed, opened)
        kernel.syscall("landlock_add_rule", ruleset, PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(opened)
