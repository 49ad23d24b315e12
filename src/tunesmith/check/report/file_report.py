"""The report of a check: findings, totals, distributions.

Printing it is up to the CLI.
"""

from dataclasses import asdict, dataclass, field

import numpy as np

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding, count_of
from tunesmith.rows.row_faults import Kind

SCHEMA_VERSION = 1
BINS = 20


@dataclass(frozen=True, slots=True)
class Distribution:
    """Percentiles by linear interpolation; `bins` has one edge more than `counts`."""

    count: int
    total: int
    minimum: int
    maximum: int
    mean: float
    p5: float
    p10: float
    median: float
    p90: float
    p95: float
    p99: float
    bins: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    def to_json(self) -> JsonObject:
        """The distribution as reports show it."""
        return {
            "count": self.count,
            "total": self.total,
            "min": self.minimum,
            "max": self.maximum,
            "mean": round(self.mean, 3),
            "p5": self.p5,
            "p10": self.p10,
            "median": self.median,
            "p90": self.p90,
            "p95": self.p95,
            "p99": self.p99,
            "histogram": {"edges": list(self.bins), "counts": list(self.counts)},
        }


def distribution(values: np.ndarray) -> Distribution | None:
    """The distribution of whole numbers; None when there are none."""
    if not values.size:
        return None
    p5, p10, median, p90, p95, p99 = (round(float(v), 3) for v in np.percentile(values, (5, 10, 50, 90, 95, 99)))
    low, high = int(values.min()), int(values.max())
    counts, edges = np.histogram(values, bins=max(1, min(BINS, high - low)), range=(low, max(high, low + 1)))
    return Distribution(
        count=int(values.size),
        total=int(values.sum(dtype=np.int64)),
        minimum=low,
        maximum=high,
        mean=float(values.mean()),
        p5=p5,
        p10=p10,
        median=median,
        p90=p90,
        p95=p95,
        p99=p99,
        bins=tuple(round(float(edge), 3) for edge in edges),
        counts=tuple(int(count) for count in counts),
    )


@dataclass(frozen=True, slots=True)
class BaseCounts:
    """Tokens as the base model's own tokenizer counts them, per epoch.

    These are the tokens that are trained here.

    When `exact` is False only `rows` rows were counted and the totals are scaled up from them; `margin` is the half
    width of the 95 % interval, as a share of `tokens`.

    `split_rows` are trained as one example for each learned answer, as the base's template rewrites earlier answers;
    `trained_examples` are those of all rows.
    """

    renderer: str
    exact: bool
    rows: int
    tokens: int
    learned_tokens: int
    cut_rows: int
    cut_tokens: int
    margin: float
    lengths: Distribution | None
    split_rows: int = 0
    trained_examples: int = 0

    def to_json(self) -> JsonObject:
        """The section `base` of a report."""
        return {
            "renderer": self.renderer,
            "exact": self.exact,
            "rows_counted": self.rows,
            "tokens": self.tokens,
            "learned_tokens": self.learned_tokens,
            "cut_rows": self.cut_rows,
            "cut_tokens": self.cut_tokens,
            "split_rows": self.split_rows,
            "trained_examples": self.trained_examples,
            "margin": round(self.margin, 4),
            "tokens_per_row": self.lengths.to_json() if self.lengths else None,
        }


@dataclass(frozen=True, slots=True)
class OpenAICounts:
    """Tokens as OpenAI counts them, per epoch, bad rows left out.

    `billed_tokens` are cut at the limit.
    """

    encoding: str
    tokens: int
    learned_tokens: int
    billed_tokens: int
    system_tokens: int

    def to_json(self) -> JsonObject:
        """The section `openai` of a report."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RowDistributions:
    """Distributions over the sound rows, in OpenAI's tokens.

    None where there are no such rows.
    """

    messages: Distribution | None = None
    tokens: Distribution | None = None
    learned_tokens: Distribution | None = None

    def to_json(self) -> JsonObject:
        """The section `distributions` of a report."""
        return {
            "messages_per_row": self.messages.to_json() if self.messages else None,
            "tokens_per_row": self.tokens.to_json() if self.tokens else None,
            "learned_tokens_per_row": self.learned_tokens.to_json() if self.learned_tokens else None,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found in a file.

    `errors` and `warnings` are the first 100 of each; `counts` has every finding by code.

    `examples` = `sound_rows` + `bad_rows`. `max_tokens` is the limit per row, in the base's tokens where there is a
    base, else in OpenAI's. `sections` are the analysers' parts of the report, by their names.
    """

    file: str
    size: int
    kind: Kind | None
    examples: int
    bad_rows: int
    blank_lines: int
    roles: dict[str, int]
    counts: dict[str, int]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    max_tokens: int | None
    openai: OpenAICounts
    base: BaseCounts | None = None
    per_row: RowDistributions = RowDistributions()
    sections: JsonObject = field(default_factory=dict)
    seconds: float = 0.0
    validation: "Report | None" = None  # on the validation file, where one was given

    @property
    def ok(self) -> bool:
        """Whether a job would accept the file, and the validation file if there is one."""
        return self.error_count == 0 and (self.validation is None or self.validation.ok)

    @property
    def error_count(self) -> int:
        """How many errors there are, listed or not."""
        return count_of(self.counts, "error")

    @property
    def warning_count(self) -> int:
        """How many warnings there are, listed or not."""
        return count_of(self.counts, "warning")

    @property
    def sound_rows(self) -> int:
        """The rows without errors."""
        return self.examples - self.bad_rows

    @property
    def shared_share(self) -> float:
        """The share of the commonest system message in all tokens.

        A training step computes it once for all its rows.
        """
        prompts = self.sections.get("system_prompts")
        if not isinstance(prompts, dict) or not self.openai.tokens:
            return 0.0
        return self.openai.system_tokens / self.openai.tokens * float(str(prompts["commonest_share"]))

    def to_json(self) -> JsonObject:
        """The report as `tunesmith check --json` prints it.

        docs/dataset-format.md describes its fields.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "file": self.file,
            "bytes": self.size,
            "ok": self.ok,
            "kind": self.kind,
            **self._rows_json(),
            **self._findings_json(),
            "roles": dict(self.roles),
            "max_tokens": self.max_tokens,
            "openai": self.openai.to_json(),
            "base": self.base.to_json() if self.base else None,
            "distributions": self.per_row.to_json(),
            **self.sections,
            **({"validation": self.validation.to_json()} if self.validation else {}),
            "seconds": round(self.seconds, 3),
        }

    def _rows_json(self) -> JsonObject:
        return {
            "examples": self.examples,
            "sound_rows": self.sound_rows,
            "bad_rows": self.bad_rows,
            "blank_lines": self.blank_lines,
        }

    def _findings_json(self) -> JsonObject:
        return {
            "error_count": self.error_count,
            "warning_count": self.warning_count,
            "counts": dict(self.counts),
            "errors": [one.to_json() for one in self.errors],
            "warnings": [one.to_json() for one in self.warnings],
        }
