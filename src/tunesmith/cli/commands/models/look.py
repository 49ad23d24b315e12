"""What is said of a base: licence, size, and what it takes of this machine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.cli.output.terminal import size
from tunesmith.families.config_file import read_text_config
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.catalogue import entry_of
from tunesmith.models.facts import count_parameters, stored_width
from tunesmith.models.gguf import read_facts
from tunesmith.models.hub import look_up
from tunesmith.models.needs import ROW_TOKENS, Needs, needs
from tunesmith.models.registry import BaseModel, GgufFile, HubRepository, LocalDirectory
from tunesmith.system.atomic_write import sha256_of
from tunesmith.system.memory import total_memory

BYTES_OF = {"float32": 4, "float64": 8, "float8_e4m3fn": 1}  # of a weight, by the dtype of a config; others have 2


@dataclass(frozen=True, slots=True)
class Found:
    """A base before it is added; `source` is pinned to its commit or digest."""

    source: HubRepository | GgufFile | LocalDirectory
    size: int  # bytes to download, or on the disk
    licence: str | None
    parameters: int | None
    needs: Needs
    memory: int  # bytes that this machine has

    @property
    def fits(self) -> bool:
        """Whether a LoRA can be trained here, at worst with recomputed activations."""
        return self.needs.least <= self.memory

    def to_json(self) -> JsonObject:
        """For scripts."""
        return {
            "size_bytes": self.size,
            "licence": self.licence,
            "parameters": self.parameters,
            "training_bytes": self.needs.training,
            "serving_bytes": self.needs.serving,
            "memory_bytes": self.memory,
            "fits": self.fits,
        }

    def lines(self) -> Iterator[str]:
        """A line each on the licence, the size, and the needs."""
        yield f"licence: {self.licence or 'not said; read the model card before you use it'}"
        weights = "" if self.parameters is None else f", {self.parameters / 1e9:.2f} billion parameters"
        where = f" at commit {self.source.revision[:12]}" if isinstance(self.source, HubRepository) else ""
        yield f"size: {size(self.size)}{weights}{where}"
        yield self.verdict()

    def verdict(self) -> str:
        """Whether it fits, with the figures."""
        there = f"this machine has {self.memory / 1e9:.1f} GB"
        training = (
            f"training (a LoRA on the CPU, rows of {ROW_TOKENS:,} tokens) needs {self.needs.training / 1e9:.1f} GB"
        )
        serving = f"serving {self.needs.serving / 1e9:.1f} GB"
        if self.needs.training <= self.memory:
            return f"fits this machine: {training}, {serving}; {there}"
        if self.fits:
            least = f"{self.needs.least / 1e9:.1f} GB with recomputed activations, which is slower"
            return f"fits this machine narrowly: {training}, or {least}; {serving}; {there}"
        rest = "it can be served" if self.needs.serving <= self.memory else "nor can it be served"
        return f"does not fit this machine: {training}, {rest} ({serving}); {there}"


def look(base: BaseModel) -> Found:
    """What is known of the base.

    Of a repository only its list of files and config.json are fetched. Raises InvalidRequest for what cannot be
    tuned, and ServerFault where the hub cannot be asked.
    """
    match base.source:
        case HubRepository() as source:
            return _of_hub(source, base.name)
        case GgufFile(path):
            return _of_gguf(path, base.name)
        case LocalDirectory(path):
            return of_directory(path)
    raise TypeError(base.source)


def of_directory(path: Path) -> Found:
    """What is known of a Hugging Face directory."""
    parameters = count_parameters(path).total()
    bytes_here = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    wanted = needs(read_text_config(path), parameters, narrow=stored_width(path) != "float32")
    return Found(LocalDirectory(path), bytes_here, None, parameters, wanted, total_memory())


def _of_hub(source: HubRepository, name: str) -> Found:
    listing, folder = look_up(source, name)
    config = read_text_config(folder)
    entry = entry_of(source.repository)
    licence = listing.licence or (str(entry.licence.value) if entry and entry.licence else None)
    stored = sum(file.size for path, file in listing.files.items() if path.endswith(".safetensors"))
    width = BYTES_OF.get(str(config.get("dtype") or config.get("torch_dtype")), 2)
    parameters = listing.parameters or stored // width
    pinned = replace(source, revision=listing.revision)
    return Found(pinned, listing.size, licence, parameters, needs(config, parameters), total_memory())


def _of_gguf(path: Path, name: str) -> Found:
    facts = read_facts(path, name)
    pinned = GgufFile(path, sha256_of(path))
    wanted = needs(facts.config, facts.parameters)
    return Found(pinned, path.stat().st_size, facts.licence, facts.parameters, wanted, total_memory())
