"""The short measurement behind an estimate's time and memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import TrainerError
from tunesmith.estimate.speed import Benchmark, benchmark_path, training_seconds, write_benchmark
from tunesmith.settings import TrainingOptions
from tunesmith.train.hardware import hardware_name
from tunesmith.train.measure import (
    Seen,
    _fit,
    _Step,
    benchmark_of,
    job_benchmark,
    measure_speed,
    record_job,
    speed_of_job,
)
from tunesmith.train.protocol.events import Step
from tunesmith.train.protocol.spec import TrainSpec

BENCHMARK = Benchmark("base", "cpu", 1.0, 2.0, 3.0, 4, 5.0)


def steps(*tokens: int, per_token: float = 0.01, per_step: float = 0.5) -> list[_Step]:
    made, at = [], 3.0
    for count in tokens:
        at += per_step + per_token * count
        made.append(_Step(count, per_step + per_token * count, 1000 + 10 * max(tokens), at))
    return made


def test_the_fit_finds_the_cost_of_a_step_and_of_a_token() -> None:
    made = steps(10, 300, 80, 200, 120)
    found = _fit("base", "cpu", made, run_seconds=20.0, bytes_per_token=10)
    assert found.tokens_per_second == pytest.approx(100)
    assert found.seconds_per_step == pytest.approx(0.5)
    assert found.start_seconds == pytest.approx(20.0 - sum(step.seconds for step in made))
    assert (found.fixed_bytes, found.bytes_per_token) == (1000, 10)


def test_noise_never_makes_a_step_cost_less_than_nothing() -> None:
    noisy = [_Step(count, seconds, 1000, 0.0) for count, seconds in ((1, 1), (1, 1), (300, 1.0), (80, 2.0), (200, 1.5))]
    found = _fit("base", "cpu", noisy, run_seconds=1.0, bytes_per_token=10)
    assert found.seconds_per_step == 0
    assert found.tokens_per_second == pytest.approx(580 / 4.5)
    assert found.start_seconds == 0


def test_a_cached_measurement_is_not_made_again(tmp_path: Path) -> None:
    known = Benchmark("base", f"{hardware_name(1)}, rank 4", 1.0, 2.0, 3.0, 4, 5.0)
    write_benchmark(benchmark_path(tmp_path, "base", known.hardware), known)
    nowhere, same, other = tmp_path / "nowhere", TrainingOptions(lora_rank=4), TrainingOptions(lora_rank=8)
    assert benchmark_of(tmp_path, "base", nowhere, options=same, threads=1) == known
    assert benchmark_of(tmp_path, "base", nowhere, options=other, threads=1, measure=False) is None


def test_steps_of_one_size_are_all_tokens() -> None:
    found = _fit("base", "cpu", steps(100, 100, 101, 99, 100, 102), run_seconds=20.0, bytes_per_token=10)
    assert found.seconds_per_step == 0
    assert found.tokens_per_second == pytest.approx(402 / (402 * 0.01 + 4 * 0.5))


def spec_of(base_dir: Path, tmp_path: Path, **changes: Any) -> TrainSpec:
    return TrainSpec(
        job_id="ftjob-1",
        base_name="base",
        base_dir=base_dir,
        training_file=tmp_path / "rows.jsonl",
        output_dir=tmp_path / "output",
        threads=1,
        **changes,
    )


def job_steps(*tokens: int) -> list[Step]:
    """Each takes half a second and 10 ms a token."""
    return [
        Step(
            step=number,
            total_steps=len(tokens),
            epoch=1,
            train_loss=1.0,
            train_mean_token_accuracy=0.5,
            tokens_per_second=count / (0.5 + 0.01 * count),
            computed_tokens=count,
            trained_tokens=sum(tokens[:number]),
            peak_memory_bytes=2_000_000_000,
        )
        for number, count in enumerate(tokens, start=1)
    ]


def test_a_job_leaves_its_speed_for_estimates(base_dir: Path, tmp_path: Path) -> None:
    done = job_steps(10, 300, 80, 200, 120, 40, 250, 90)
    spec = spec_of(base_dir, tmp_path)
    found = record_job(tmp_path / "data", spec, Seen(done, 4.6))
    assert found is not None
    assert found.tokens_per_second == pytest.approx(100)
    assert found.seconds_per_step == pytest.approx(0.5)
    assert found.start_seconds == pytest.approx(4.0)  # the first step took 0.6 of the 4.6 seconds
    assert job_benchmark(tmp_path / "data", "base", TrainingOptions(), threads=1) == found
    assert job_benchmark(tmp_path / "data", "base", TrainingOptions(lora_rank=8), threads=1) is None
    rounded = replace(spec, options=TrainingOptions(matmul_precision="bfloat16"))
    assert record_job(tmp_path / "data", rounded, Seen(done, 2.3)) is None  # it would be taken for exact products


def test_a_base_in_16_bits_takes_half_of_the_bytes_a_token(base_dir: Path, tmp_path: Path) -> None:
    done, spec = job_steps(10, 300, 80, 200, 120, 40, 250, 90), spec_of(base_dir, tmp_path)
    wide = record_job(tmp_path / "data", spec, Seen(done, 4.6))
    narrow = record_job(tmp_path / "data", spec, Seen(done, 4.6, element_bytes=2))
    assert wide is not None
    assert narrow is not None
    assert narrow.bytes_per_token == wide.bytes_per_token / 2
    assert narrow.fixed_bytes == 2_000_000_000 - 300 * narrow.bytes_per_token


@pytest.mark.parametrize(
    ("tokens", "changes"),
    [
        ((10, 300, 80), {}),
        ((10, 300, 80, 200, 120, 40, 250, 90), {"method": "dpo"}),
        ((10, 300, 80, 200, 120, 40, 250, 90), {"options": TrainingOptions(quantization="nf4")}),
        ((10, 300, 80, 200, 120, 40, 250, 0), {}),
    ],
    ids=["short", "dpo", "quantized", "unmeasured"],
)
def test_a_job_that_says_too_little_leaves_nothing(
    base_dir: Path, tmp_path: Path, tokens: tuple[int, ...], changes: dict[str, object]
) -> None:
    assert record_job(tmp_path / "data", spec_of(base_dir, tmp_path, **changes), Seen(job_steps(*tokens), 4.6)) is None
    assert not (tmp_path / "data").exists()


LINEARS = 4 * (30 * 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 61 * 576)  # bytes of the default base's, norms with them


@pytest.mark.parametrize(
    ("measured", "step_tokens", "more"), [(1, 90, 1), (1, 800, 0), (2, 90, 0), (2, 800, -1)], ids=str
)
def test_a_job_of_small_steps_has_its_weights_in_two_layouts(
    base_dir: Path, measured: int, step_tokens: float, more: int
) -> None:
    found = replace(BENCHMARK, fixed_bytes=2_000_000_000, layouts=measured)
    job = speed_of_job(found, base_dir, TrainingOptions(), step_tokens, 50_000)
    assert job is not None
    assert job.fixed_bytes - found.fixed_bytes == more * LINEARS
    assert speed_of_job(found, base_dir, TrainingOptions(adapter="none"), step_tokens, 50_000) == found
    assert speed_of_job(None, base_dir, TrainingOptions(), step_tokens, 50_000) is None


def test_a_job_that_leaves_its_speed_says_in_how_many_layouts_its_weights_were(base_dir: Path, tmp_path: Path) -> None:
    small, spec = job_steps(*[94] * 30), spec_of(base_dir, tmp_path)
    large = job_steps(*[800] * 30)
    kept = [record_job(tmp_path / "data", spec, Seen(steps, 4.6)) for steps in (small, large)]
    assert [None if one is None else one.layouts for one in kept] == [2, 1]


def test_a_trainer_that_fails_is_said_and_not_measured(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="could not be measured"):
        measure_speed("base", tmp_path / "nowhere")


def test_a_real_measurement_has_sound_figures(tiny_base: Path) -> None:
    """Of a small base: what is measured is a real trainer, and its figures do not depend on the size."""
    found = measure_speed("tiny", tiny_base)
    assert 1 < found.tokens_per_second < 1e6
    assert 1e8 < found.fixed_bytes < 1e10
    assert found.bytes_per_token > 0
    assert 0.5 < found.start_seconds < 300
    assert training_seconds(found, 1000, 10) > found.start_seconds
