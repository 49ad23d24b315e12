"""A tuned model as exports read it: its files, and the base below it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.models.adapters import AdapterManifest, read_manifest
from tunesmith.models.directory import fingerprint, materialise
from tunesmith.models.registry import HubRepository, resolve_base
from tunesmith.models.tuned import check_weights, own_base
from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A tuned model on this machine, whose files are whole."""

    name: str
    directory: Path  # the adapter's files, or those of all weights
    base_dir: Path  # what the adapter is for; `directory` itself where all weights were trained
    base_source: str  # where other programs find the base: a repository of the hub, or a directory
    manifest: AdapterManifest

    @property
    def is_adapter(self) -> bool:
        """Whether it is a LoRA beside a base."""
        return self.manifest.adapter == "lora"

    @property
    def has_own_base(self) -> bool:
        """Whether the weights below the adapter were tuned as well."""
        return self.is_adapter and self.base_dir.is_relative_to(self.directory)


def open_tuned(name: str, base_model: str, directory: Path, settings: Settings) -> TunedModel:
    """The model whose files are in `directory`.

    Raises ServerFault where they are damaged, and InvalidRequest where its base is another one today.
    """
    manifest = read_manifest(directory)
    check_weights(directory)
    base = resolve_base(base_model, settings)
    own = own_base(directory)
    base_dir = own or materialise(base, settings)
    if manifest.adapter == "lora" and fingerprint(base_dir) != manifest.base_fingerprint:
        raise InvalidRequest(
            f"{name} was trained on another {base_model} than the one in {base_dir}: its config, tokenizer or weights"
            " were replaced since. Put the old base back, or train again."
        )
    hub = base.source.repository if isinstance(base.source, HubRepository) and own is None else None
    return TunedModel(name, directory, base_dir, hub or str(base_dir.absolute()), manifest)


# What other programs need of a base besides its weights, and what is ours alone.
KEPT_SUFFIXES = (".json", ".jinja", ".model", ".txt")
OURS = ("manifest.json", "answers.json", "card.json", "evaluation.json", "display.json", "adapter_config.json")


def side_files(base_dir: Path) -> Iterator[Path]:
    """The base's config, tokenizer, templates and licence."""
    for path in sorted(base_dir.iterdir()):
        wanted = path.suffix in KEPT_SUFFIXES or path.name.upper().startswith("LICENSE")
        if path.is_file() and wanted and path.name not in OURS:
            yield path
