"""Prints what `bench/serve.py` measured.

Medians with their ranges over the rounds, ratios, shares of what the machine allows, and how many answers are equal.
"""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from bench.serving.engines import KINDS, Kind
from bench.serving.texts import PREFIX, RANK, linear_sizes

REFERENCE = "transformers"  # whose answers the others should give
DECIMALS = {"tokens/s": 1, "ms": 0}


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that is measured."""

    name: str
    unit: Literal["tokens/s", "ms"]
    streams: int = 0  # decoded together; 0: a prompt is read
    adapters: int = 1  # different ones among them
    limited: bool = True  # the machine's limit is of interest


@dataclass(frozen=True, slots=True)
class Sample:
    """One engine's figure in one round."""

    engine: str
    figure: Figure
    value: float
    answers: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """What the hardware can do at most."""

    bytes_per_second: float
    flops_per_second: float

    @classmethod
    def measured(cls, threads: int) -> "Machine":
        """The best of five sums of 256 MiB, and the best float32 matrix product."""
        from tunesmith.train.core.device import Device
        from tunesmith.train.paths.flops import matmul_peak

        torch.set_num_threads(threads)
        block = torch.ones(64 * 2**20)
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            block.sum()
            best = min(best, time.perf_counter() - began)
        return cls(block.nbytes / best, matmul_peak(Device("cpu", torch.float32)))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of weights: in all layers, the output head, and one adapter."""

    layers: int
    head: int
    adapter: int
    attention: int  # heads * head size, in all layers

    @classmethod
    def of(cls, config: dict[str, int]) -> "Sizes":
        linears, layers = linear_sizes(config).values(), config["num_hidden_layers"]
        return cls(
            layers * sum(outputs * inputs for outputs, inputs in linears),
            config["hidden_size"] * config["vocab_size"],
            layers * sum(RANK * (outputs + inputs) for outputs, inputs in linears),
            layers * next(iter(linears))[0],
        )

    def limit(self, figure: Figure, kind: Kind, machine: Machine) -> float:
        """Tokens per second that reading the weights, or multiplying, allows at most."""
        if figure.streams == 0:
            flops = 2.0 * (self.layers + self.adapter) + 4.0 * self.attention * PREFIX / 2
            return machine.flops_per_second / flops
        weights = kind.weight_bytes * (self.layers + self.head)
        read = weights + kind.adapter_bytes * self.adapter * figure.adapters
        flops = 2.0 * figure.streams * (self.layers + self.head + self.adapter)
        return figure.streams / max(read / machine.bytes_per_second, flops / machine.flops_per_second)


Medians: TypeAlias = dict[tuple[str, Figure], float]
Values: TypeAlias = dict[tuple[str, Figure], list[float]]


def print_tables(samples: Sequence[Sample], machine: Machine, sizes: Sizes, ends: Iterable[int]) -> None:
    """Prints all tables.

    `ends`: tokens that end an answer; what an engine generates after one is not compared.
    """
    values = _values(samples)
    medians = {key: statistics.median(rounds) for key, rounds in values.items()}
    engines = [name for name in KINDS if any(sample.engine == name for sample in samples)]
    figures = [*dict.fromkeys(sample.figure for sample in samples)]
    _print_figures(figures, engines, values, medians)
    _print_shares(figures, engines, medians, machine, sizes)
    _print_equal(samples, engines, frozenset(ends))
    _print_drafts(figures, medians)


def _values(samples: Sequence[Sample]) -> Values:
    values: Values = {}
    for sample in samples:
        values.setdefault((sample.engine, sample.figure), []).append(sample.value)
    return values


def _print_figures(figures: list[Figure], engines: list[str], values: Values, medians: Medians) -> None:
    """Medians with their ranges; a ratio of the medians above 1 means that Tunesmith is faster than the best peer."""
    ours = [name for name in engines if KINDS[name].ours and not KINDS[name].undrafted]
    heads = [KINDS[name].title for name in engines] + [f"{name} : best peer" for name in ours]
    print(f"\n| | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
    for figure in figures:
        cells = [_spread(values.get((name, figure), []), DECIMALS[figure.unit]) for name in engines]
        peers = [medians[name, figure] for name in engines if not KINDS[name].ours and (name, figure) in medians]
        ratios = [_number(_ratio(figure, medians.get((name, figure)), peers), 2) for name in ours]
        print(f"| {figure.name}, {figure.unit} | {' | '.join(cells + ratios)} |")


def _ratio(figure: Figure, mine: float | None, peers: list[float]) -> float | None:
    if mine is None or not peers:
        return None
    return mine / max(peers) if figure.unit == "tokens/s" else min(peers) / mine


def _spread(rounds: list[float], decimals: int) -> str:
    """The median, and the range where there was more than one round: "131.0 (127.4-138.2)"."""
    if len(rounds) < 2:
        return _number(rounds[0] if rounds else None, decimals)
    low, high = _number(min(rounds), decimals), _number(max(rounds), decimals)
    return f"{_number(statistics.median(rounds), decimals)} ({low}-{high})"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _print_shares(
    figures: list[Figure],
    engines: list[str],
    medians: Medians,
    machine: Machine,
    sizes: Sizes,
) -> None:
    print(
        f"\nShare of the limit: {machine.bytes_per_second / 1e9:.1f} GB/s read, "
        f"{machine.flops_per_second / 1e9:.0f} GFLOP/s in float32.\n"
    )
    print(f"| | {' | '.join(KINDS[name].title for name in engines)} |\n| --- |{' ---: |' * len(engines)}")
    for figure in figures:
        if figure.unit != "tokens/s" or not figure.limited:
            continue
        rates = [medians.get((name, figure)) for name in engines]
        limits = [sizes.limit(figure, KINDS[name], machine) for name in engines]
        shares = [f"{rate / limit:.0%}" if rate else "" for rate, limit in zip(rates, limits, strict=True)]
        print(f"| {figure.name} | {' | '.join(shares)} |")


def _print_equal(samples: Sequence[Sample], engines: list[str], ends: frozenset[int]) -> None:
    """Counts answers that equal the reference's up to the end of its turn."""
    answers: dict[tuple[str, Figure], tuple[tuple[int, ...], ...]] = {}
    for sample in samples:
        if sample.answers:
            answers.setdefault((sample.engine, sample.figure), sample.answers)
    figures = [figure for name, figure in answers if name == REFERENCE]
    if not figures:
        return
    print(f"\nGreedy answers equal to those of {KINDS[REFERENCE].title} in float32:")
    for name in engines:
        pairs = [
            pair
            for figure in figures
            if (name, figure) in answers and name != REFERENCE
            for pair in zip(answers[REFERENCE, figure], answers[name, figure], strict=True)
        ]
        if pairs:
            equal = sum(_until_end(one, ends) == other[: len(_until_end(one, ends))] for one, other in pairs)
            print(f"  {KINDS[name].title}: {equal} of {len(pairs)}")


def _until_end(answer: tuple[int, ...], ends: frozenset[int]) -> tuple[int, ...]:
    return answer[: next((place for place, token in enumerate(answer) if token in ends), len(answer))]


def _print_drafts(figures: list[Figure], medians: Medians) -> None:
    for figure in figures:
        for name in KINDS:
            on, off = medians.get((name, figure)), medians.get((f"{name}-undrafted", figure))
            if on and off and figure.streams == 1:
                print(f"Drafts, {KINDS[name].title}, {figure.name}: {on / off:.2f} times as fast as without.")
