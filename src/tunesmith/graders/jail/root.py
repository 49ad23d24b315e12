"""The file tree of the jail: Python's library, read only, and nothing else.

Built on a tmpfs in a mount namespace of its own; the old tree is detached, so that a path to it does not exist. The
fresh folder of a call is mounted over `FOLDER` by `child.py`.
"""

import os
import sys
import sysconfig
from pathlib import Path

from tunesmith.graders.jail import kernel

FOLDER = "/grader"
USUAL_FOLDER = "/tmp"  # noqa: S108 - in the jail a link to `FOLDER`
NULL, RANDOM = "/dev/null", "/dev/urandom"
PLACES = ("/tmp", "/mnt", "/var", "/opt")  # noqa: S108 - a mount of ours may lie over one of them for a moment
SHARED_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/etc/ld.so.cache")
DATA = ("/usr/share/zoneinfo", "/usr/share/nltk_data")
PYTHONS_DATA = ("nltk_data", "share/nltk_data")  # below its prefix
READ_ONLY = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


def library_paths() -> list[str]:
    """What Python needs to read, each path once and none within another."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    wanted = [Path(path) for path in (*SHARED_LIBRARIES, *DATA, *(sysconfig.get_path(name) for name in names))]
    wanted += [Path(prefix, name) for prefix in (sys.prefix, sys.base_prefix) for name in PYTHONS_DATA]
    wanted += [Path(sys.base_prefix, "lib")]
    found = sorted({os.path.abspath(path) for path in wanted if path.exists()})  # noqa: PTH100 - links stay links
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def enter(paths: list[str]) -> None:
    """Makes a tree of `paths`, read only, and `FOLDER` the root of this process."""
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in [*paths, NULL, RANDOM]}
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    base = next(path for path in PLACES if Path(path).is_dir())
    kernel.mount("tmpfs", base, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,nr_inodes=1024,mode=0755")
    for path, source in opened.items():
        _bind(source, f"{base}{path}")
    Path(f"{base}{FOLDER}").mkdir()
    if not Path(f"{base}{USUAL_FOLDER}").exists():  # it does where Python itself lies below it
        Path(f"{base}{USUAL_FOLDER}").symlink_to(FOLDER)
    for path in paths:
        kernel.add_mount_flags(f"{base}{path}", READ_ONLY)
    kernel.pivot_root(base)
    for source in opened.values():
        os.close(source)
    kernel.mount("none", "/", None, kernel.MS_BIND | 32 | READ_ONLY)  # 32: MS_REMOUNT, of the tmpfs itself


def _bind(source: int, target: str) -> None:
    if Path(f"/proc/self/fd/{source}").is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    kernel.mount(f"/proc/self/fd/{source}", target, None, kernel.MS_BIND | kernel.MS_REC)
