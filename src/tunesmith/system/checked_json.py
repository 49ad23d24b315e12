"""JSON files with a digest of their content, to be made again when damaged."""

import json
import logging
from hashlib import sha256
from pathlib import Path

from tunesmith.jsonvalue import JsonValue
from tunesmith.system.atomic_write import make_directories, write_atomically

log = logging.getLogger(__name__)

KEYS = {"sha256", "value"}


def write_checked(path: Path, value: JsonValue) -> None:
    """Writes the file durably, with its directory if need be."""
    make_directories(path.parent)
    content = {"sha256": _digest(value), "value": value}
    write_atomically(path, json.dumps(content, ensure_ascii=False).encode())


def read_checked(path: Path) -> JsonValue:
    """The value; None if there is no file, or (with a line in the log) a damaged one.

    Files of earlier releases have the value alone.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return _damaged(path)
    if not isinstance(content, dict) or not content:
        return _damaged(path)
    if set(content) != KEYS:
        return content
    value: JsonValue = content["value"]
    return value if content["sha256"] == _digest(value) else _damaged(path)


def _damaged(path: Path) -> JsonValue:
    log.warning("%s is damaged, as after a power cut; it is made again", path)
    return None


def _digest(value: JsonValue) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
