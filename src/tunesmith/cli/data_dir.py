"""The data directory, for its owner alone."""

import stat
from pathlib import Path

from tunesmith.settings import Settings
from tunesmith.system.private import tighten, tighten_one

# What Tunesmith writes at the top of the directory; other things in it are somebody else's.
OURS = (
    "tunesmith.db*",
    "tunesmith.toml",
    "api-key",
    "server.*",
    "audit.log",
    "activity",
    "checking",
    "exports",
    "checks",
    "files",
    "jobs",
    "serve",
)


def secure_data_dir(settings: Settings) -> None:
    """Makes the data directory if needed, and closes it to other users.

    An earlier version, or another umask, may have left it open; that is told in one line.
    """
    from tunesmith.cli.output.terminal import note, plural

    root = settings.paths.root
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed = tighten(path for pattern in OURS for path in root.glob(pattern))
    if not _is_shared_place(root):
        changed += tighten_one(root)
    if changed:
        note(f"Other users could read {root}: took their rights from {plural(changed, 'file')} or directories in it.")


def _is_shared_place(root: Path) -> bool:
    """Whether it is a home directory, or one such as /tmp, which others may have to enter."""
    sticky = root.stat().st_mode & stat.S_ISVTX != 0
    return sticky or Path.home().resolve().is_relative_to(root.resolve())
