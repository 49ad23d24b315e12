"""What an export's child process is asked for, and what it tells.

The child reads one line of JSON and writes lines of JSON, each with one of the keys below.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tunesmith.export.kinds import Kind, Width
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings

NEEDED, TOLD, REFUSED, FAULT, DONE = "needed", "told", "refused", "fault", "done"
SETTINGS = {"data_dir", "cache_dir", "bases", "aliases", "base_model", "disk_reserve_bytes"}  # no key among them


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A model, and how it is to be written."""

    model: str
    base_model: str
    directory: Path  # of the model's files
    kind: Kind
    width: Width = "auto"
    system_message: str | None = None

    def to_json(self, target: Path, settings: Settings) -> JsonObject:
        """The request as it goes through the pipe."""
        return {
            "model": self.model,
            "base_model": self.base_model,
            "directory": str(self.directory.absolute()),
            "kind": self.kind,
            "width": self.width,
            "system_message": self.system_message,
            "target": str(target.absolute()),
            "settings": settings.model_dump(mode="json", include=SETTINGS),
        }


def request_from_json(value: JsonObject) -> tuple[ExportRequest, Path, Settings]:
    """The request, the folder that is to be made, and the settings it is made with."""
    request = ExportRequest(
        model=str(value["model"]),
        base_model=str(value["base_model"]),
        directory=Path(str(value["directory"])),
        kind=cast(Kind, value["kind"]),
        width=cast(Width, value["width"]),
        system_message=cast(str | None, value["system_message"]),
    )
    return request, Path(str(value["target"])), Settings.model_validate(value["settings"])
