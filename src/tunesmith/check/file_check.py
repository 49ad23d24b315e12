"""Checks a training file and reports what it holds.

The same check serves `tunesmith check`, the upload, and the worker before training.

Nothing is raised for what a file holds: every fault is a finding with line, path, message and fix.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tunesmith.check.kept_scans import KeptScan
from tunesmith.check.report.base_counts import BaseLimits, base_findings, count_base
from tunesmith.check.report.file_report import OpenAICounts, Report, RowDistributions, distribution
from tunesmith.check.rules.file_rules import METHOD_KINDS, MIN_EXAMPLES, file_findings, system_prompts
from tunesmith.check.scan.analysers import DEFAULT_ANALYSERS
from tunesmith.check.scan.file_scan import FileScan, Progress, scan_file
from tunesmith.check.scan.result import ChunkResult, ScanOptions
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.faults import NO_TEMPLATE
from tunesmith.render.renderer import Renderer
from tunesmith.rows.findings import Finding, FindingLog, finding, in_order
from tunesmith.tokens import DEFAULT_ENCODING

OPENAI_LIMITS = {"cl100k_base": 16_385, "o200k_base": 65_536}  # gpt-3.5-turbo-0125; gpt-4o and 4.1


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What a file is checked for.

    `renderer` adds the base model's own counts; `base_totals=False` leaves out the totals and keeps the faults.
    `max_tokens` is the limit per row, in the base's tokens when there is a renderer, else in OpenAI's (default:
    OpenAI's limit for the encoding). `method` says what the rows must fit.
    """

    renderer: Renderer | None = None
    base_totals: bool = True
    max_tokens: int | None = None
    method: str | None = None
    encoding: str = DEFAULT_ENCODING
    analysers: tuple[str, ...] = DEFAULT_ANALYSERS
    min_examples: int = MIN_EXAMPLES

    @property
    def openai_limit(self) -> int:
        """Tokens of a row that OpenAI would train, by its own count."""
        limit = OPENAI_LIMITS.get(self.encoding, 65_536)
        return self.max_tokens if self.renderer is None and self.max_tokens is not None else limit

    @property
    def scan(self) -> ScanOptions:
        """The pass that these options need."""
        return ScanOptions(
            find_kind=True,
            reinforcement=self.method == "reinforcement",
            encoding=self.encoding,
            analysers=self.analysers,
            lost=self.renderer.lost_bytes if self.renderer is not None else b"",
        )


def check_file(path: Path, options: CheckOptions = CheckOptions(), *, progress: Progress | None = None) -> Report:
    """The report on `path`; `progress` is told how many bytes are read."""
    started = time.perf_counter()
    report = report_on(path, scan_file(path, options.scan, progress), options)
    return replace(report, seconds=time.perf_counter() - started)


def scan_of(path: Path, options: CheckOptions, kept: KeptScan) -> FileScan:
    """The pass over `path` that these options need, kept or new."""
    wanted = options.scan
    neutral = replace(wanted, lost=b"")  # a base matters only to a file with characters that the base cannot write
    scan = kept.read(path, neutral) or _scan_and_keep(path, neutral, kept)
    if scan.rows.odd_bytes.isdisjoint(wanted.lost):
        return scan
    return kept.read(path, wanted) or _scan_and_keep(path, wanted, kept)


def _scan_and_keep(path: Path, options: ScanOptions, kept: KeptScan) -> FileScan:
    scan = scan_file(path, options)
    kept.write(options, scan)
    return scan


def report_on(path: Path, scan: FileScan, options: CheckOptions) -> Report:
    """The report on `path`, which was scanned before.

    Reads rows again only where the base has to be asked about them.
    """
    rows = scan.rows
    log = FindingLog()
    log.merge(rows.log.counts, [*rows.log.errors, *rows.log.warnings])
    refused = 0
    if scan.readable:
        refused = _add_limits(rows, options, log)
        log.extend(file_findings(rows, options.method, options.min_examples))
    base = None
    if options.renderer is not None:
        log.extend(base_findings(rows, options.renderer))
    if options.renderer is not None and rows.lines.size and not log.counts.get(NO_TEMPLATE):
        limits = BaseLimits(options.renderer, options.max_tokens)
        base, unfit = count_base(path, limits, rows, log, totals=options.base_totals)
        refused += unfit
    report = _report(path, scan, options, log)
    return replace(report, base=base, bad_rows=report.bad_rows + refused)


def _report(path: Path, scan: FileScan, options: CheckOptions, log: FindingLog) -> Report:
    rows = scan.rows
    return Report(
        file=path.name,
        size=path.stat().st_size,
        kind=rows.kind,
        examples=rows.examples,
        bad_rows=rows.bad_rows,
        blank_lines=rows.blank_lines,
        roles=rows.roles,
        counts=log.counts,
        errors=in_order(log.errors),
        warnings=in_order(log.warnings),
        max_tokens=options.max_tokens if options.max_tokens is not None else options.openai_limit,
        openai=_openai_counts(rows, options),
        per_row=RowDistributions(distribution(rows.messages), distribution(rows.tokens), distribution(rows.learned)),
        sections={**scan.sections, **_system_prompts(rows)},
    )


def _openai_counts(rows: ChunkResult, options: CheckOptions) -> OpenAICounts:
    return OpenAICounts(
        encoding=options.encoding,
        tokens=int(rows.tokens.sum(dtype=np.int64)),
        learned_tokens=int(rows.learned.sum(dtype=np.int64)),
        billed_tokens=int(np.minimum(rows.tokens, options.openai_limit).sum(dtype=np.int64)),
        system_tokens=int(rows.system_tokens.sum(dtype=np.int64)),
    )


def _system_prompts(rows: ChunkResult) -> JsonObject:
    found = system_prompts(rows)
    return {"system_prompts": found} if found else {}


def _add_limits(rows: ChunkResult, options: CheckOptions, log: FindingLog) -> int:
    """Findings about rows over OpenAI's limit, where no base counts; how many rows have nothing left to learn."""
    refused = 0
    for found in _over_limit(rows, options.openai_limit) if options.renderer is None else ():
        log.add(found)
        refused += found.code == "answer_cut"
    return refused


def _over_limit(rows: ChunkResult, limit: int) -> Iterator[Finding]:
    for at in np.flatnonzero(rows.tokens > limit).tolist():
        line, total, before = int(rows.lines[at]), int(rows.tokens[at]), int(rows.before[at])
        if before >= limit:
            text = f"The row has {total} tokens, {before} of them before the answer; the limit is {limit}."
            yield finding("answer_cut", line, text, value=str(total))
        else:
            text = f"The row has {total} tokens and the limit is {limit}: {total - limit} are cut off its end."
            yield finding("over_limit", line, text, value=str(total))


__all__ = ["METHOD_KINDS", "CheckOptions", "Report", "check_file", "report_on", "scan_of"]
