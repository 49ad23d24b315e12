"""Analysers: further checks of the texts of a file.

Each is given every chunk, in whichever process reads it, and ends in the parent.

To add one: a module in this package with a class that has the two methods of `Analyser`, and its name in `_CLASSES`.
`analyse` must be pure and quick (it runs for each chunk of about 4 MB); what it returns is small: `Partial` holds JSON
and arrays, never texts. `finish` gets the partials in file order and says what they amount to.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Protocol

from tunesmith.check.scan.batch import Batch
from tunesmith.check.scan.result import ChunkResult, Partial
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding

DEFAULT_ANALYSERS = ("text_quality", "languages", "duplicates", "personal_data")
ANALYSERS = (*DEFAULT_ANALYSERS, "near_duplicates")
_CLASSES = {
    "text_quality": "tunesmith.check.rules.quality:TextQuality",
    "languages": "tunesmith.check.rules.languages:Languages",
    "duplicates": "tunesmith.check.rules.duplicates:ExactDuplicates",
    "near_duplicates": "tunesmith.check.rules.duplicates:NearDuplicates",
    "row_sketches": "tunesmith.check.rules.duplicates:RowSketches",
    "personal_data": "tunesmith.check.rules.pii:PersonalData",
}


class Analyser(Protocol):
    """One further check; see the module."""

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """Analyses one chunk.

        `data` are its raw lines, for a cheap search before the texts are touched.

        Findings about one row go to `result.log`; what needs the whole file goes into the Partial.
        """
        ...

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """Findings about the file, and this analyser's section of the report.

        `whole` has the arrays of the whole file: lines, tokens, digests of prompts and answers (see `Batch`). What is
        to be kept beside the report goes into `whole.partials`, under the analyser's name.
        """
        ...


@cache
def load(name: str) -> Analyser:
    """The analyser of that name, imported only when it is needed.

    Rooms above this one name theirs as `module:Class`, as a worker process knows it by name alone.
    """
    module, colon, own = _CLASSES.get(name, name).partition(":")
    if not colon:
        raise InvalidRequest(f"No analyser is called '{name}'; there are {', '.join(ANALYSERS)}.", param="analysers")
    analyser: Analyser = getattr(import_module(module), own)()
    return analyser


def analyse(data: bytes, batch: Batch, names: Sequence[str], result: ChunkResult) -> None:
    """Runs the named analysers on one chunk and puts what they return into `result`."""
    for name in names:
        result.partials[name] = load(name).analyse(data, batch, result)


def finish(names: Sequence[str], parts: Sequence[ChunkResult], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
    """What all analysers found about the file, and their sections of the report."""
    found: list[Finding] = []
    sections: JsonObject = {}
    for name in names:
        own, section = load(name).finish([part.partials[name] for part in parts if name in part.partials], whole)
        found += own
        if section:
            sections[name] = section
    return found, sections
