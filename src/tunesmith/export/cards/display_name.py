"""What people call a tuned model: `display.json` in its folder.

Requests go on naming it by its own name, which never changes.
"""

import json
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.system.atomic_write import write_atomically

FILE = "display.json"
MOST_CHARACTERS = 80


def read_display_name(directory: Path, model: str) -> str | None:
    """The name that people gave to `model`; None where nobody did."""
    return _read(directory).get(model)


def write_display_name(directory: Path, model: str, text: str) -> str | None:
    """Gives `model` a name, or with an empty text takes it away; returns it.

    Raises InvalidRequest for one that is too long or has characters that cannot be seen.
    """
    name = " ".join(text.split())
    if len(name) > MOST_CHARACTERS:
        raise InvalidRequest(
            f"The name has {len(name):,} characters; {MOST_CHARACTERS} are allowed.", param="display_name"
        )
    if not name.isprintable():
        raise InvalidRequest("The name has characters that cannot be seen. Type it again.", param="display_name")
    names = {**_read(directory), model: name}  # of an imported model too that these weights answer for
    kept = {one: given for one, given in names.items() if given}
    data = json.dumps(kept, ensure_ascii=False, indent=1).encode()
    write_atomically(directory / FILE, data, durable=False, private=True)
    return name or None


def _read(directory: Path) -> dict[str, str]:
    try:
        found = json.loads((directory / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(given) for name, given in found.items()} if isinstance(found, dict) else {}
