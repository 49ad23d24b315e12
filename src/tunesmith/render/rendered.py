"""Rows as tokens: what is trained of them, and where they are cut."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.render.faults import answer_cut, nothing_to_learn
from tunesmith.rows.messages import Tool


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as tokens.

    `weights[i]` is 1.0 where token i is learned (predicted from the tokens before it), else 0.0.

    The last token is a learned one: what follows it could teach nothing. `truncated` tokens were cut off the end.
    """

    ids: list[int]
    weights: list[float]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """What is trained of a row.

    It is one example, or several where the template rewrites earlier answers. Each learned token is learned in one
    example. `truncated` tokens were cut off, with whole examples or of one.
    """

    examples: tuple[Rendered, ...]
    truncated: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens are trained.

        What examples have in common at their start is trained once."""
        before: list[int] = []
        tokens = 0
        for example in self.examples:
            tokens += len(example.ids) - (_common(before, example.ids) if before else 0)
            before = example.ids
        return tokens

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return int(sum(sum(example.weights) for example in self.examples))


@dataclass(frozen=True, slots=True)
class Opening:
    """What an answer begins with besides its text.

    `ids`: what the model writes before a plain answer, in which nobody is interested (an empty block of thinking).
    `begun`: the thought that its prompt has begun, "" for none; it is part of an answer that goes on with it.
    `prompt_end`: how the prompt ends, for the reader of a base that knows tools; `tools` are
    the declared ones.
    """

    ids: tuple[int, ...]
    begun: str
    prompt_end: str = ""
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """A preference row as tokens.

    Both answers continue `prompt_ids`; their ids and weights start where the prompt ends.
    """

    prompt_ids: list[int]
    preferred: Rendered
    non_preferred: Rendered


def finish(examples: Sequence[tuple[list[int], list[float]]], max_tokens: int | None) -> RenderedRow:
    """Cuts each example at `max_tokens`, then after its last learned token.

    What is beyond is cut off the end, as OpenAI does it."""
    kept: list[Rendered] = []
    longest = truncated = 0
    for ids, weights in examples:
        full = _last_learned(weights)
        end = _last_learned(weights[:max_tokens]) if max_tokens is not None else full
        longest = max(longest, full)
        truncated += full - (end or min(full, max_tokens or 0))
        if end:
            kept.append(Rendered(ids[:end], weights[:end], full - end))
    if not longest:
        raise nothing_to_learn()
    if not kept:
        raise answer_cut(longest, max_tokens)
    return RenderedRow(tuple(kept), truncated)


def _last_learned(weights: Sequence[float]) -> int:
    return next((position for position in range(len(weights), 0, -1) if weights[position - 1]), 0)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
