"""Epochs, "auto", money, time, memory: pure rules on small numbers."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.errors import InvalidRequest
from tunesmith.estimate.hyperparameters import (
    Hyperparameters,
    auto_batch_size,
    auto_epochs,
    batch_reason,
    rate_warning,
    resolve_hyperparameters,
)
from tunesmith.estimate.job_estimate import Machine, estimate
from tunesmith.estimate.prices import Price, price_of, require_price, training_cost
from tunesmith.estimate.speed import (
    Benchmark,
    Workload,
    benchmark_path,
    of_ranks,
    peak_memory,
    read_benchmark,
    training_seconds,
    unpacked,
    write_benchmark,
)
from tunesmith.jsonvalue import JsonValue
from tunesmith.render.renderer import Renderer

BENCHMARK = Benchmark("base", "cpu", 100.0, 0.5, 10.0, 1_000_000, 1000.0)


@dataclass
class Rows:
    examples: int
    shared_share: float = 0.0


def rows_file(tmp_path: Path, rows: int, system: str = "You answer.") -> Path:
    path = tmp_path / "rows.jsonl"
    made = [[("system", system), ("user", f"Say {number}"), ("assistant", f"{number} it is")] for number in range(rows)]
    lines = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in made]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [
        (0, 3),
        (1, 25),
        (4, 25),
        (5, 20),
        (10, 10),
        (33, 3),
        (34, 3),
        (101, 3),
        (8333, 3),
        (8334, 2),
        (12501, 1),
        (10**6, 1),
    ],
)
def test_epochs_follow_the_published_rule(examples: int, epochs: int) -> None:
    assert auto_epochs(examples) == epochs


@pytest.mark.parametrize(("examples", "size"), [(10, 1), (101, 1), (740, 1), (1000, 2), (10_000, 20), (10**6, 256)])
def test_batch_size_is_a_five_hundredth_of_the_rows(examples: int, size: int) -> None:
    assert auto_batch_size(examples) == size


@pytest.mark.parametrize(
    ("examples", "share", "size"),
    [(200, 0.8, 8), (100, 0.8, 4), (50, 0.8, 2), (10, 0.8, 1), (200, 0.3, 1), (10_000, 0.8, 20)],
)
def test_a_long_shared_system_message_makes_a_larger_batch_where_steps_are_left(
    examples: int, share: float, size: int
) -> None:
    rows = Rows(examples, share)
    chosen = resolve_hyperparameters({"batch_size": "auto"}, rows, "supervised")
    assert chosen.batch_size == size
    reason = batch_reason({"batch_size": "auto"}, rows, chosen)
    assert (reason is not None) == (size in (2, 4, 8))
    assert reason is None or f"'auto' is {size}: 80% of the tokens are one system message" in reason


def test_a_batch_that_was_asked_for_needs_no_reason() -> None:
    chosen = resolve_hyperparameters({"batch_size": 8}, Rows(200, 0.9), "supervised")
    assert chosen.batch_size == 8
    assert batch_reason({"batch_size": 8}, Rows(200, 0.9), chosen) is None


def test_auto_null_and_missing_become_numbers() -> None:
    found = resolve_hyperparameters({"n_epochs": "auto", "batch_size": None}, Rows(10), "supervised")
    assert found == Hyperparameters(10, 1, 2.0, None)
    assert resolve_hyperparameters(None, Rows(10), "dpo").beta == 0.1


@pytest.mark.parametrize(
    ("examples", "ranks", "batch_size"),
    [(10, 1, 1), (10, 2, 2), (9, 2, 3), (9, 8, 9), (17, 8, 9), (3, 8, 3), (1000, 4, 4), (5000, 4, 10), (1000, 64, 72)],
)
def test_auto_leaves_no_rank_without_rows(examples: int, ranks: int, batch_size: int) -> None:
    chosen = resolve_hyperparameters({"batch_size": "auto"}, Rows(examples), "supervised", ranks)
    assert chosen.batch_size == batch_size
    rest = examples % batch_size
    assert not rest or rest >= min(ranks, examples)


def test_auto_says_that_ranks_decided_the_batch() -> None:
    chosen = resolve_hyperparameters(None, Rows(17), "supervised", 8)
    reason = batch_reason(None, Rows(17), chosen, 8)
    assert reason is not None
    assert reason.startswith("batch_size 'auto' is 9, so that each of 8 ranks has rows in every step.")
    assert batch_reason({"batch_size": 9}, Rows(17), chosen, 8) is None
    assert resolve_hyperparameters({"batch_size": 4}, Rows(17), "supervised", 8).batch_size == 4


def test_given_numbers_are_kept() -> None:
    asked = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5, "beta": 0.3}
    assert resolve_hyperparameters(asked, Rows(10), "dpo") == Hyperparameters(2, 4, 0.5, 0.3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_epochs", 0),
        ("n_epochs", 51),
        ("n_epochs", True),
        ("n_epochs", 1.5),
        ("n_epochs", "3"),
        ("batch_size", 257),
        ("learning_rate_multiplier", 0),
        ("learning_rate_multiplier", -1),
        ("learning_rate_multiplier", [2]),
        ("beta", 2.5),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, value: JsonValue) -> None:
    with pytest.raises(InvalidRequest, match=name) as refused:
        resolve_hyperparameters({name: value}, Rows(10), "dpo")
    assert refused.value.param == f"hyperparameters.{name}"


def test_the_real_job_of_6810_tokens_costs_what_it_cost() -> None:
    """Ten rows, 681 tokens an epoch, ten epochs, $0.008 per 1K: OpenAI billed $0.05448."""
    then = price_of("gpt-3.5-turbo-0613@2023-10")
    assert then is not None
    assert training_cost(then, 681 * auto_epochs(10)) == pytest.approx(0.05448)


def test_an_estimate_multiplies_tokens_by_epochs(tmp_path: Path) -> None:
    report = check_file(rows_file(tmp_path, 20))
    found = estimate(report, Hyperparameters(3, 8, 2.0))
    assert (found.steps_per_epoch, found.total_steps) == (3, 9)
    assert found.openai_tokens == report.openai.tokens * 3
    assert found.openai_cost == round(found.openai_tokens * 0.008 / 1000, 6)
    assert (found.trained_tokens, found.seconds, found.peak_memory_bytes) == (None, None, None)


def test_rows_over_the_limit_are_billed_up_to_it(tmp_path: Path) -> None:
    path = rows_file(tmp_path, 20, system="word " * 100)
    report = check_file(path, CheckOptions(max_tokens=118))
    assert report.counts["over_limit"] == 20
    assert report.openai.billed_tokens == 20 * 118 < report.openai.tokens


def test_trained_tokens_are_the_lengths_of_what_the_renderer_makes(tmp_path: Path, renderer: Renderer) -> None:
    from tunesmith.rows.row import ChatRow, read_rows

    path = rows_file(tmp_path, 12)
    report = check_file(path, CheckOptions(renderer=renderer, max_tokens=2048))
    rendered = [renderer.row(row, 2048) for _, row in read_rows(path) if isinstance(row, ChatRow)]
    found = estimate(report, Hyperparameters(4, 1, 2.0), machine=Machine(BENCHMARK, hourly_cost=3.6))
    assert found.trained_tokens == sum(len(one.ids) for one in rendered) * 4
    assert found.learned_tokens == sum(sum(one.weights) for one in rendered) * 4
    assert found.seconds == pytest.approx(10 + found.trained_tokens / 100 + 48 * 0.5)
    assert found.seconds is not None
    assert found.local_cost == pytest.approx(found.seconds / 1000)
    longest = max(len(one.ids) for one in rendered)
    assert found.peak_memory_bytes == 1_000_000 + 1000 * longest
    assert not {"ranks", "machine_memory_bytes"} & found.to_json().keys()
    two = estimate(report, Hyperparameters(4, 2, 2.0), machine=Machine(of_ranks(BENCHMARK, 2, cards=True))).to_json()
    assert (two["ranks"], two["peak_memory_bytes"]) == (2, found.peak_memory_bytes)
    assert two["machine_memory_bytes"] == 2 * found.peak_memory_bytes
    assert two["seconds"] == pytest.approx(10 + found.trained_tokens / 200 + 24 * 0.5)


def test_a_thousand_answers_are_like_the_rows_of_the_file(tmp_path: Path) -> None:
    report = check_file(rows_file(tmp_path, 20, system="rule " * 1000))
    found = estimate(report, Hyperparameters(3, 1, 2.0), require_price("gpt-4o-mini")).answers
    assert found is not None
    assert found.prompt_tokens + found.completion_tokens == report.openai.tokens / 20
    assert found.completion_tokens == report.openai.learned_tokens / 20
    expected = (found.prompt_tokens * 0.30 + found.completion_tokens * 1.20) / 1000  # dollars a million, 1,000 answers
    assert found.dollars == pytest.approx(expected, abs=1e-6)


def test_price_that_is_not_known_leaves_the_cost_open(tmp_path: Path) -> None:
    report = check_file(rows_file(tmp_path, 20))
    found = estimate(report, Hyperparameters(3, 1, 2.0), Price("mine", training=1.0))
    assert found.openai_cost == round(report.openai.billed_tokens * 3 / 1e6, 6)
    assert found.answers is not None
    assert found.answers.dollars is None
    assert estimate(report, Hyperparameters(3, 1, 2.0), Price("mine", input=1.0)).openai_cost is None


def test_time_and_memory_are_linear_in_the_measurement() -> None:
    assert training_seconds(BENCHMARK, 1000, 4) == 10 + 10 + 2
    assert peak_memory(BENCHMARK, 100) == 1_000_000 + 100_000


@pytest.mark.parametrize(("cards", "speed"), [(False, 1), (True, 4)], ids=["processors", "GPUs"])
def test_ranks_share_a_pass_and_each_has_the_base(cards: bool, speed: int) -> None:
    four = of_ranks(BENCHMARK, 4, cards=cards)
    assert four.tokens_per_second == BENCHMARK.tokens_per_second * speed
    assert peak_memory(four, 100) == 1_000_000 + 25_000
    assert peak_memory(four, 100, longest_row=60) == 1_000_000 + 60_000


def test_rows_nobody_looked_at_are_taken_for_the_worst() -> None:
    assert unpacked(1000, 50, 2, BENCHMARK) == Workload(1000, 100)
    assert unpacked(1000, 5000, 16, BENCHMARK).largest == 8192
    assert unpacked(1000, 10_000, 16, BENCHMARK).largest == 10_000


def test_a_benchmark_is_cached_per_base_and_hardware(tmp_path: Path) -> None:
    path = benchmark_path(tmp_path, "my/base: x", "cpu 2 threads")
    assert path.parent == tmp_path / "benchmarks"
    assert read_benchmark(path) is None
    write_benchmark(path, BENCHMARK)
    assert read_benchmark(path) == BENCHMARK
    path.write_text('{"of": "another version"}')
    assert read_benchmark(path) is None


def test_benchmarks_that_differ_at_the_end_of_a_long_name_are_two(tmp_path: Path) -> None:
    hardware = "Intel(R) Xeon(R) Platinum 8480+ 16 threads, NVIDIA H100 80GB HBM3, rank 16"
    base = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    paths = [benchmark_path(tmp_path, base, hardware + rest) for rest in ("", " over int8", " over int4")]
    assert len(set(paths)) == 3
    assert max(len(path.stem) for path in paths) <= 120
    assert benchmark_path(tmp_path, base, hardware) == paths[0]


def test_a_learning_rate_in_the_place_of_its_multiplier_is_pointed_out() -> None:
    assert rate_warning(0.0001, 2.5e-4) == (
        "learning_rate_multiplier 0.0001 gives a learning rate of 2.5e-08 (0.0001 x the base rate 0.00025), which"
        " changes next to nothing. If 0.0001 was meant as the learning rate itself, give 0.4; 'auto' is 2."
    )
    assert rate_warning(2e-5, 1e-4) is not None
    assert [rate_warning(sound, 2.5e-4) for sound in (0.01, 0.02, 0.1, 2.0, 10.0)] == [None] * 5
