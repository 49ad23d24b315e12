"""Tokens as the base model counts them: every row of a small file, a seeded sample of a large one."""

from pathlib import Path

import numpy as np
import orjson

from tunesmith.data.findings import FindingLog, finding
from tunesmith.data.render import Renderer
from tunesmith.data.report import BaseCounts, distribution
from tunesmith.data.result import ChunkResult
from tunesmith.data.rows import PreferenceRow, ReinforcementRow, Row, build_row
from tunesmith.errors import DataError

EXACT_TOKENS = 1_500_000  # by OpenAI's count: about 6 MB of English, some 5 s of one core
SAMPLE_ROWS = 2_000


def count_base(
    path: Path, renderer: Renderer, result: ChunkResult, max_tokens: int | None, log: FindingLog
) -> BaseCounts | None:
    """The counts of the sound rows in `result`; rows over the limit go to `log`."""
    chosen, exact = _choose(result, max_tokens)
    wanted = set(chosen.tolist())
    tokens, learned, cut = [], [], []
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number not in wanted:
                continue
            try:
                ids, taught, lost = _lengths(
                    build_row(orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))), renderer, max_tokens
                )
            except DataError as error:
                log.add(finding("answer_cut", number, error.message))
                result.bad_rows += 1
                continue
            tokens.append(ids)
            learned.append(taught)
            cut.append(lost)
            if lost:
                text = f"The row has {ids + lost} tokens and the limit is {max_tokens}: {lost} are cut off its end."
                log.add(finding("over_limit", number, text, value=str(ids + lost)))
    if not tokens:
        return None
    counted = np.asarray(tokens)
    scale = 1.0 if exact else result.lines.size / len(tokens)
    margin = 0.0 if exact else 1.96 * float(counted.std()) / max(float(counted.mean()), 1.0) / len(tokens) ** 0.5
    return BaseCounts(
        renderer=renderer.name,
        exact=exact,
        rows=len(tokens),
        tokens=round(sum(tokens) * scale),
        learned_tokens=round(sum(learned) * scale),
        cut_rows=round(sum(1 for lost in cut if lost) * scale),
        cut_tokens=round(sum(cut) * scale),
        margin=margin,
        lengths=distribution(counted),
    )


def _choose(result: ChunkResult, max_tokens: int | None) -> tuple[np.ndarray, bool]:
    """Line numbers to render, and whether they are all."""
    if int(result.tokens.sum(dtype=np.int64)) <= EXACT_TOKENS:
        return result.lines, True
    chosen = np.random.default_rng(0).choice(result.lines, min(SAMPLE_ROWS, result.lines.size), replace=False)
    return np.sort(chosen), False


def _lengths(row: Row, renderer: Renderer, max_tokens: int | None) -> tuple[int, int, int]:
    """(tokens trained, tokens learned, tokens cut) of a row."""
    if isinstance(row, ReinforcementRow):
        return len(renderer.prompt(row.prompt, row.tools)), 0, 0
    if isinstance(row, PreferenceRow):
        pair = renderer.pair(row, max_tokens)
        both = (pair.preferred, pair.non_preferred)
        ids = sum(len(pair.prompt_ids) + len(one.ids) for one in both)
        return ids, int(sum(sum(one.weights) for one in both)), sum(one.truncated for one in both)
    rendered = renderer.row(row, max_tokens)
    return len(rendered.ids), int(sum(rendered.weights)), rendered.truncated
