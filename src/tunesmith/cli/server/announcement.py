"""How a server tells other commands where it is: a small JSON file.

A file that a killed server left may name a port that another program has by now, perhaps another user's, and commands
send their API key to that port. So the file also holds a random secret, which only its reader and the server know, and
a command first has whoever answers there prove that it knows the secret. A process id would not do: ids are used again.
"""

import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tunesmith.settings import Settings
from tunesmith.system.atomic_write import write_atomically

CHALLENGE, PROOF = "x-tunesmith-challenge", "x-tunesmith-proof"  # headers of /healthz


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a server can be reached; `server.json` in the data directory."""

    base_url: str
    pid: int
    secret: str = field(default="", repr=False)  # "" in files for users, and in those of earlier versions

    @classmethod
    def of_this_process(cls, base_url: str) -> "Announcement":
        """An announcement of this process, with a new secret."""
        return cls(base_url, os.getpid(), secrets.token_hex(32))

    def write(self, path: Path) -> None:
        """Replaces the file at once, so that no reader sees half of it."""
        content = {name: value for name, value in asdict(self).items() if value != ""}
        write_atomically(path, json.dumps(content).encode(), durable=False, private=True)  # worthless after a power cut

    @staticmethod
    def read(path: Path) -> "Announcement | None":
        """The announcement in the file; None when there is none that can be read."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return Announcement(str(value["base_url"]), int(value["pid"]), str(value.get("secret", "")))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def proof(self, challenge: str) -> str:
        """What the server answers to the challenge.

        The address is in it, so that another program cannot have the true server answer in its place.
        """
        return hmac.new(self.secret.encode(), f"{self.base_url} {challenge}".encode(), "sha256").hexdigest()

    def is_proved_by(self, challenge: str, answer: str) -> bool:
        """Whether the answer to the challenge came from the server announced here."""
        return self.secret != "" and hmac.compare_digest(self.proof(challenge).encode(), answer.encode())


def announcement_file(settings: Settings) -> Path:
    """The file in which the server of this data directory announces itself."""
    return settings.paths.root / "server.json"


def activity_dir(settings: Settings) -> Path:
    """Where the server's processes tell what slow work they do."""
    return settings.paths.root / "activity"
