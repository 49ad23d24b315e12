"""The lists of models: bases with other names, tuned models with verdicts."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tunesmith.export.cards.display_name import display_name
from tunesmith.models.directory import is_present, present_directory
from tunesmith.models.facts import count_parameters
from tunesmith.models.registry import BaseModel, GgufFile, alias_table, list_bases
from tunesmith.settings import Settings
from tunesmith.store import JobRow, ModelRow, ScopedStore


@dataclass(frozen=True, slots=True)
class Base:
    """A base; None where its weights are not on this machine to be counted."""

    name: str
    aliases: tuple[str, ...]
    parameters: int | None
    bytes: int | None
    present: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a job says of its model beside the base, in a sentence."""

    decision: str
    sentence: str
    job: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model or a checkpoint in a list."""

    name: str
    base: str
    step: int | None
    created_at: int
    shared: bool  # by another project
    display: str | None  # what people call it
    verdict: Verdict | None


def bases(settings: Settings, store: ScopedStore) -> list[Base]:
    """All bases; headers of weight files are read, no weights."""
    others: dict[str, list[str]] = {}
    for alias, base in alias_table(settings, store.aliases.all()).items():
        others.setdefault(base.name, []).append(alias)
    return [_base(base, settings, tuple(others.get(base.name, ()))) for base in list_bases(settings)]


def tuned_page(store: ScopedStore, *, limit: int, after: str | None) -> tuple[list[Tuned], bool]:
    """A page of tuned models and checkpoints, newest first, and whether more follow."""
    page = store.models.page(limit=limit, after=after)
    jobs = store.jobs.among({row.job_id for row in page.data})
    return [_tuned(row, jobs.get(row.job_id), store.project) for row in page.data], page.has_more


def verdict_of(job: JobRow | None) -> Verdict | None:
    """The verdict that stands in the job.

    None where there is none, or the job is another project's.
    """
    found = None if job is None else job.options.get("evaluation")
    if job is None or not isinstance(found, dict):
        return None
    return Verdict(str(found.get("verdict")), str(found.get("sentence", "")), job.id)


def _tuned(row: ModelRow, job: JobRow | None, project: str) -> Tuned:
    verdict = verdict_of(job) if row.step is None else None  # a job compares what it ends with, no checkpoint
    display = display_name(row)
    return Tuned(row.name, row.base_model, row.step, row.created_at, row.project != project, display, verdict)


def _base(base: BaseModel, settings: Settings, aliases: tuple[str, ...]) -> Base:
    directory = present_directory(base, settings)
    if directory is None:
        here = is_present(base, settings)
        size = base.source.path.stat().st_size if here and isinstance(base.source, GgufFile) else None
        return Base(base.name, aliases, base.parameters, size, here)
    files = sorted(directory.glob("*.safetensors"))
    looks = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    counted = _parameters(directory, looks) if files else None
    return Base(base.name, aliases, base.parameters or counted, sum(size for size, _ in looks), bool(files))


@lru_cache(maxsize=256)
def _parameters(directory: Path, looks: tuple[tuple[int, int], ...]) -> int | None:
    """Read again when the files have changed; None for files that are no weights."""
    try:
        return count_parameters(directory).total()
    except (OSError, ValueError, KeyError, TypeError):
        return None
