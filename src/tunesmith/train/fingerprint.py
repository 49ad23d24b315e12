"""A hash of everything that decides a run's result, to recognise its progress."""

import json
from hashlib import file_digest, sha256
from pathlib import Path

from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import read_manifest
from tunesmith.models.directory import fingerprint
from tunesmith.train.protocol.old_spec import fingerprinted
from tunesmith.train.protocol.spec import TrainSpec


def spec_fingerprint(spec: TrainSpec) -> str:
    """64 hex digits that change with whatever changes the result.

    They are the same for every attempt at a job, wherever its files are. What is hashed has been the same in all
    releases; a change makes the jobs that run during an update start again.
    """
    return digest_of(deciding_values(spec))


def deciding_values(spec: TrainSpec) -> JsonObject:
    """Whatever changes the result of a run, by name; files by their hashes."""
    value = fingerprinted(spec)
    value["training_file"] = spec.training_sha256 or _file_sha256(spec.training_file)
    held_out = spec.validation_file
    value["validation_file"] = None if held_out is None else spec.validation_sha256 or _file_sha256(held_out)
    if spec.init_adapter_dir:
        value["init_adapter_dir"] = read_manifest(spec.init_adapter_dir).sha256
    value["base"] = fingerprint(spec.base_dir)
    return value


def digest_of(values: JsonObject) -> str:
    """The fingerprint of `deciding_values`."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    """Reads the file piece by piece: an upload may have gigabytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
