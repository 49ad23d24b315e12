"""Where everything of a data directory is."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are below the data directory."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite database; not there when `database_url` names another."""
        return self.root / "tunesmith.db"

    @property
    def blobs(self) -> Path:
        """The bytes of files."""
        return self.root / "files"

    @property
    def jobs(self) -> Path:
        """One directory per job."""
        return self.root / "jobs"

    @property
    def checks(self) -> Path:
        """What passes over uploaded files have found; made again where it is missing."""
        return self.root / "checks"

    @property
    def serve(self) -> Path:
        """What was found out about bases that answer; made again where it is missing."""
        return self.root / "serve"

    @property
    def checking(self) -> Path:
        """How often the checks that are under way were begun, a file for each."""
        return self.root / "checking"

    @property
    def exports(self) -> Path:
        """Models written for other programs, for a day; made again where they are missing."""
        return self.root / "exports"

    @property
    def seals(self) -> Path:
        """Digests of bases that nodes of a cluster have; made again where missing."""
        return self.root / "seals"

    @property
    def api_key_file(self) -> Path:
        """The first API key, mode 0600."""
        return self.root / "api-key"
