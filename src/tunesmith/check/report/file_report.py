"""What the check says about a file: findings, totals, distributions. A value; printing it is the CLI's work."""

from dataclasses import dataclass, field

import numpy as np

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding
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
    """Tokens as the base model's own tokenizer counts them, per epoch; these are what is trained here.

    When `exact` is False only `rows` rows were counted and the totals are scaled up from them; `margin` is the half
    width of the 95 % interval, as a share of `tokens`.
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

    def to_json(self) -> JsonObject:
        return {
            "renderer": self.renderer,
            "exact": self.exact,
            "rows_counted": self.rows,
            "tokens": self.tokens,
            "learned_tokens": self.learned_tokens,
            "cut_rows": self.cut_rows,
            "cut_tokens": self.cut_tokens,
            "margin": round(self.margin, 4),
            "tokens_per_row": self.lengths.to_json() if self.lengths else None,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """`errors` and `warnings` are the first 100 of each; `counts` has every finding by code.

    `examples` = `sound_rows` + `bad_rows`. Token counts are per epoch and leave bad rows out.
    """

    file: str
    size: int
    kind: Kind | None
    examples: int
    bad_rows: int
    blank_lines: int
    counts: dict[str, int]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    error_count: int
    warning_count: int
    encoding: str
    max_tokens: int | None
    openai_tokens: int
    openai_learned_tokens: int
    openai_billed_tokens: int
    openai_system_tokens: int
    roles: dict[str, int]
    base: BaseCounts | None = None
    messages_per_row: Distribution | None = None
    tokens_per_row: Distribution | None = None
    learned_per_row: Distribution | None = None
    sections: JsonObject = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error_count == 0

    @property
    def sound_rows(self) -> int:
        return self.examples - self.bad_rows

    @property
    def shared_share(self) -> float:
        """Of all tokens, those of the commonest system message: what a step of several rows computes once."""
        prompts = self.sections.get("system_prompts")
        if not isinstance(prompts, dict) or not self.openai_tokens:
            return 0.0
        return self.openai_system_tokens / self.openai_tokens * float(str(prompts["commonest_share"]))

    @property
    def base_tokens(self) -> int | None:
        return self.base.tokens if self.base else None

    @property
    def learned_tokens(self) -> int | None:
        return self.base.learned_tokens if self.base else None

    def to_json(self) -> JsonObject:
        distributions: dict[str, Distribution | None] = {
            "messages_per_row": self.messages_per_row,
            "tokens_per_row": self.tokens_per_row,
            "learned_tokens_per_row": self.learned_per_row,
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "file": self.file,
            "bytes": self.size,
            "ok": self.ok,
            "kind": self.kind,
            "examples": self.examples,
            "sound_rows": self.sound_rows,
            "bad_rows": self.bad_rows,
            "blank_lines": self.blank_lines,
            "error_count": self.error_count,
            "warning_count": self.warning_count,
            "counts": dict(self.counts),
            "errors": [one.to_json() for one in self.errors],
            "warnings": [one.to_json() for one in self.warnings],
            "roles": dict(self.roles),
            "max_tokens": self.max_tokens,
            "openai": {
                "encoding": self.encoding,
                "tokens": self.openai_tokens,
                "learned_tokens": self.openai_learned_tokens,
                "billed_tokens": self.openai_billed_tokens,
                "system_tokens": self.openai_system_tokens,
            },
            "base": self.base.to_json() if self.base else None,
            "distributions": {name: one.to_json() if one else None for name, one in distributions.items()},
            **self.sections,
            "seconds": round(self.seconds, 3),
        }
