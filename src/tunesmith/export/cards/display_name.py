"""What people call a tuned model.

Requests go on naming it by its own name, which never changes.

The name is in the model's row; earlier versions kept it in `display.json`, in the model's folder.
"""

import json
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.store import ModelRow

FILE = "display.json"
MOST_CHARACTERS = 80


def display_name(row: ModelRow) -> str | None:
    """The name that people gave to a model; None where nobody did."""
    if row.display is not None:
        return row.display or None
    return _read(row.adapter_dir).get(row.name)


def checked_display_name(text: str) -> str:
    """The name without needless spaces.

    Raises InvalidRequest for one that is too long or has characters that cannot be seen.
    """
    name = " ".join(text.split())
    if len(name) > MOST_CHARACTERS:
        raise InvalidRequest(
            f"The name has {len(name):,} characters; {MOST_CHARACTERS} are allowed.", param="display_name"
        )
    if not name.isprintable():
        raise InvalidRequest("The name has characters that cannot be seen. Type it again.", param="display_name")
    return name


def _read(directory: Path) -> dict[str, str]:
    try:
        found = json.loads((directory / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(given) for name, given in found.items()} if isinstance(found, dict) else {}
