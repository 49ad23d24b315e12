"""Looking at processes that may end at any moment: also between being listed and being asked."""

import os

import psutil


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended, nor waits to be asked how."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def children(word: str, parent: int | None = None, *, recursive: bool = False) -> list[psutil.Process]:
    """Those of a process (this one unless given) that live and have the word in their command."""
    found = psutil.Process(os.getpid() if parent is None else parent).children(recursive=recursive)
    return [one for one in found if lives(one) and word in _command(one)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
