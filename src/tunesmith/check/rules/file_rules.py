"""Rules about a whole file.

Too few rows, the wrong method, contradictions, many system prompts.
"""

from collections.abc import Iterator

import numpy as np

from tunesmith.check.scan.result import ChunkResult, repeated
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding, finding
from tunesmith.rows.row_faults import Kind

MIN_EXAMPLES = 10
ADVISED_EXAMPLES = 50
MANY_PROMPTS = 5  # different ones, of which the commonest has less than half of the rows
METHOD_KINDS: dict[str, tuple[Kind, ...]] = {
    "supervised": ("chat", "completion"),
    "dpo": ("preference",),
    "reinforcement": ("reinforcement",),
}
TRAINED_METHODS = ("supervised", "dpo")  # a job with another one is refused


def method_of(kind: Kind | None) -> str | None:
    """The method of a job that trains rows of this kind; None where no job does."""
    return next((method for method in TRAINED_METHODS if kind in METHOD_KINDS[method]), None)


def file_findings(result: ChunkResult, method: str | None, least: int) -> Iterator[Finding]:
    """Findings about the file as a whole.

    A file of fewer than `least` rows has too few.
    """
    rows, kind = result.examples, result.kind
    if rows < least:
        text = f"The file has {rows} example(s), but must have at least {least} examples."
        yield finding("too_few_examples", None, text, value=str(rows))
    elif MIN_EXAMPLES <= rows < ADVISED_EXAMPLES:
        yield finding("few_examples", None, f"The file has {rows} examples.", value=str(rows))
    if result.blank_lines:
        yield finding("blank_line", result.first_blank, f"{result.blank_lines} blank line(s), the first one here.")
    if method is not None and kind is not None and kind not in METHOD_KINDS.get(method, ()):
        text = f"The file holds {kind} rows, but the training method is '{method}'."
        yield finding("wrong_method", None, text, value=kind)
    yield from _untrained(method, kind)
    yield from _contradictions(result)
    yield from _many_system_prompts(result)


def _untrained(method: str | None, kind: Kind | None) -> Iterator[Finding]:
    """What no job takes, however sound its rows are."""
    if method is None and kind is not None and method_of(kind) is None:
        text = "The rows have no answer to learn: they end with the user and have further keys, as for reinforcement."
        yield finding("method_not_available", None, text, value=kind)
    elif method is not None and method not in TRAINED_METHODS:
        text = f"The method '{method}' is not available here; a job trains with {' or '.join(TRAINED_METHODS)}."
        yield finding("method_not_available", None, text, value=method)


def _contradictions(result: ChunkResult) -> Iterator[Finding]:
    """Rows whose prompt an earlier row has with another answer, in file order."""
    rows = repeated(result.prompts)
    rows = rows[np.argsort(result.prompts[rows], kind="stable")]
    prompts, answers = result.prompts[rows], result.answers[rows]
    new = np.ones(len(rows), bool)
    new[1:] = prompts[1:] != prompts[:-1]
    first = np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))
    other = np.flatnonzero(answers != answers[first])
    lines, firsts = result.lines[rows[other]], result.lines[rows[first[other]]]
    for at in np.argsort(lines):
        text = f"The prompt of line {firsts[at]} has another answer here."
        yield finding("contradictory_answers", int(lines[at]), text, path="messages")


def system_prompts(result: ChunkResult) -> JsonObject:
    """How many distinct system prompts there are, and the share of the commonest.

    Empty without any.

    Empty without any.
    """
    prompts, rows = np.unique(result.systems[result.systems != 0], return_counts=True)
    if not prompts.size:
        return {}
    return {
        "distinct": int(prompts.size),
        "rows": int(rows.sum()),
        "commonest_share": round(int(rows.max()) / result.systems.size, 3),
        "mean_tokens": round(float(result.system_tokens[result.systems != 0].mean()), 1),
    }


def _many_system_prompts(result: ChunkResult) -> Iterator[Finding]:
    found = system_prompts(result)
    if found and int(str(found["distinct"])) >= MANY_PROMPTS and float(str(found["commonest_share"])) < 0.5:
        share = float(str(found["commonest_share"]))
        text = f"There are {found['distinct']:,} different system messages; the commonest has {share:.0%} of the rows."
        yield finding("many_system_prompts", None, text, value=str(found["distinct"]))
