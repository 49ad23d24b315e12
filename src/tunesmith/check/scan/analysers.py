"""Further looks at the texts of a file: each sees every chunk, in whichever process reads it, and ends in the parent.

To add one: a module in this package with a class that has the two methods of `Analyser`, and its name in `load`.
`look` must be pure and quick (it runs for each chunk of about 4 MB); what it returns is small: `Partial` holds JSON
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


class Analyser(Protocol):
    def look(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """`data` are the chunk's raw lines, for a cheap search before the texts are touched.

        Findings about one row go to `result.log`; what needs the whole file goes into the Partial.
        """
        ...

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """Findings about the file, and this analyser's part of the report (shown under its name).

        `whole` has the arrays of the whole file: lines, tokens, digests of prompts and answers (see `Batch`). What is
        to be kept beside the report goes into `whole.partials`, under the analyser's name.
        """
        ...


@cache
def load(name: str) -> Analyser:
    """The analyser of that name, imported only when it is asked for.

    Rooms above this one name theirs as `module:Class`, as a worker process knows it by name alone.
    """
    match name:
        case "text_quality":
            from tunesmith.check.rules.quality import TextQuality

            return TextQuality()
        case "languages":
            from tunesmith.check.rules.languages import Languages

            return Languages()
        case "duplicates":
            from tunesmith.check.rules.duplicates import ExactDuplicates

            return ExactDuplicates()
        case "near_duplicates":
            from tunesmith.check.rules.duplicates import NearDuplicates

            return NearDuplicates()
        case "personal_data":
            from tunesmith.check.rules.pii import PersonalData

            return PersonalData()
        case "row_sketches":
            from tunesmith.check.rules.duplicates import RowSketches

            return RowSketches()
    module, colon, own = name.partition(":")
    if colon:
        analyser: Analyser = getattr(import_module(module), own)()
        return analyser
    raise InvalidRequest(f"No analyser is called '{name}'; there are {', '.join(ANALYSERS)}.", param="analysers")


def analyse(data: bytes, batch: Batch, names: Sequence[str], result: ChunkResult) -> None:
    for name in names:
        result.partials[name] = load(name).look(data, batch, result)


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
