"""A folder that loses, at a power cut, what was not synced.

Processes run with `sync_log.c` preloaded, which keeps what they synced. `cut` makes the folder what a disk might hold
after the power was gone. Three disks are drawn from:

    ordered   every name is as it was last seen, as on ext4, but what a file held beyond its last sync is lost
    strict    only synced names exist, with synced content: all that POSIX promises
    mixed     each folder is one or the other, and each block of a file is the synced or the later one

Not covered: renames between folders that are half done on a disk of kind `mixed` may show both names or neither.
"""

import ctypes
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["ordered", "strict", "mixed"]
KINDS: tuple[Kind, ...] = ("ordered", "strict", "mixed")
BLOCK = 4096
SOURCE = Path(__file__).with_name("sync_log.c")


@cache
def library() -> Path:
    """The compiled `sync_log.c`."""
    target = Path(gettempdir()) / f"sync-log-{os.getpid()}.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-ldl"], check=True)
    return target


@dataclass(frozen=True, slots=True)
class Disk:
    """`root` is the folder that processes use; `kept` has what they synced."""

    root: Path
    kept: Path

    @classmethod
    def new(cls, folder: Path) -> "Disk":
        """A disk in `folder`; what is put into its root before a process runs is lost unless synced."""
        disk = cls(folder / "disk", folder / "kept")
        disk.root.mkdir(parents=True)
        disk._forget()
        return disk

    def environment(self) -> dict[str, str]:
        """What the processes need in theirs."""
        return {"LD_PRELOAD": str(library()), "SYNC_LOG_ROOT": str(self.root), "SYNC_LOG_KEPT": str(self.kept)}

    def cut(self, kind: Kind, seed: int) -> list[str]:
        """Makes the root what the disk may hold now, and gives the files that lost something.

        No process may be using it any more.
        """
        lost: list[str] = []
        after = self.root.with_name("after")
        _Cut(self, kind, random.Random(seed), lost).folder(self.root, _key(self.root), after)
        shutil.rmtree(self.root)
        after.rename(self.root)
        self._forget()
        self._keep_all()
        return lost

    def _forget(self) -> None:
        if self.kept.exists():
            shutil.rmtree(self.kept)
        for name in ("files", "names", "partial"):
            (self.kept / name).mkdir(parents=True)

    def _keep_all(self) -> None:
        """What has survived one cut is on the disk for good."""
        for folder, _, names in os.walk(self.root):
            here = Path(folder)
            lines = [f"{_key(path)} {path.name}\n" for path in sorted(here.iterdir())]
            (self.kept / "names" / _key(here)).write_text("".join(lines), "utf-8")
            for name in names:
                shutil.copyfile(here / name, self.kept / "files" / _key(here / name))


@dataclass(slots=True)
class _Cut:
    disk: Disk
    kind: Kind
    chance: random.Random
    lost: list[str]

    def folder(self, now: Path | None, key: str, after: Path) -> None:
        """Writes what is left of a folder, which may no longer be there now, to `after`."""
        after.mkdir()
        seen = {path.name: _key(path) for path in now.iterdir()} if now else {}
        for name, kept in self._names(key, seen).items():
            path = now / name if now and seen.get(name) == kept else self._elsewhere(kept)
            if path is not None and path.is_dir():
                self.folder(path, kept, after / name)
            elif path is None and (self.disk.kept / "names" / kept).exists():
                self.folder(None, kept, after / name)
            else:
                self._file(path, kept, after / name)
        shutil.copymode(now, after) if now else after.chmod(0o700)

    def _names(self, key: str, seen: dict[str, str]) -> dict[str, str]:
        """The names of a folder and the keys of what they name."""
        listed = self.disk.kept / "names" / key
        synced = dict(_entry(line) for line in listed.read_text("utf-8").splitlines()) if listed.exists() else {}
        is_now = self.kind == "ordered" or (self.kind == "mixed" and self.chance.random() < 0.5)
        names = seen if is_now else synced
        if names != seen:
            self.lost.append(f"names in {key}: {sorted(seen.keys() ^ synced.keys())}")
        return dict(sorted(names.items()))

    def _file(self, now: Path | None, key: str, after: Path) -> None:
        copy = self.disk.kept / "files" / key
        synced = copy.read_bytes() if copy.exists() else b""
        later = now.read_bytes() if now else synced
        left = synced if self.kind != "mixed" else self._blend(synced, later)
        if left != later:
            self.lost.append(f"{after.name}: {len(later)} bytes, {len(left)} left")
        after.write_bytes(left)
        shutil.copymode(now, after) if now else after.chmod(0o600)

    def _blend(self, synced: bytes, later: bytes) -> bytes:
        """Each block of the file as it was synced or as it was written later; its length is one of the two."""
        length = self.chance.choice((len(synced), len(later)))
        blocks = [
            self.chance.choice((synced, later))[at : at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, length, BLOCK)
        ]
        return b"".join(blocks)[:length]

    def _elsewhere(self, key: str) -> Path | None:
        """Where what was synced under another name is now."""
        for folder, names, files in os.walk(self.disk.root):
            for name in (*names, *files):
                path = Path(folder) / name
                if _key(path) == key:
                    return path
        return None


def _entry(line: str) -> tuple[str, str]:
    key, _, name = line.partition(" ")
    return name, key


def _key(path: Path) -> str:
    """The key under which `sync_log.c` knows a file or folder."""
    key = ctypes.create_string_buffer(96)
    if _loaded().sync_log_key(os.fsencode(path), key, ctypes.c_size_t(len(key))):
        return "neither file nor folder"
    return key.value.decode()


@cache
def _loaded() -> ctypes.CDLL:
    return ctypes.CDLL(str(library()))
