from collections.abc import Callable

from tunesmith.serve.engine.thread_tuner import ThreadTuner


def run(chooser: ThreadTuner, seconds: Callable[[int], float], steps: int = 400, rows: int = 1) -> list[int]:
    """The number of threads of each step, where a step of so many threads takes `seconds`."""
    used = []
    for _ in range(steps):
        used.append(chooser.threads(rows))
        chooser.report(rows, seconds(used[-1]))
    return used


def test_all_threads_are_kept_while_they_are_the_fastest() -> None:
    used = run(ThreadTuner(2), lambda threads: 0.04 / threads)
    assert used.count(2) > 0.9 * len(used)
    assert 1 in used  # it keeps trying


def test_one_thread_is_found_when_two_wait_for_each_other_and_left_when_they_do_not() -> None:
    chooser = ThreadTuner(2)
    assert run(chooser, lambda threads: 0.2 if threads == 2 else 0.05)[-100:].count(1) > 85
    assert run(chooser, lambda threads: 0.02 * (3 - threads))[-100:].count(2) > 85


def test_the_best_of_many_is_climbed_to() -> None:
    assert run(ThreadTuner(32), lambda threads: 0.05 + 0.01 * abs(threads - 8), 1000)[-100:].count(8) > 80


def test_a_small_gain_changes_nothing() -> None:
    used = run(ThreadTuner(2), lambda threads: 0.040 if threads == 2 else 0.038)
    assert used.count(2) > 0.9 * len(used)


def test_steps_of_another_size_are_not_compared() -> None:
    chooser, used = ThreadTuner(2), []
    for _ in range(500):
        for size, seconds in ((1, 0.001), (8, 0.1)):
            used.append(chooser.threads(size))
            chooser.report(size, seconds * (3 - used[-1]))
    assert used.count(2) > 0.9 * len(used)


def test_a_trial_that_shows_at_once_how_bad_it_is_costs_one_step() -> None:
    chooser, used = ThreadTuner(2), []
    for _ in range(1000):
        used.append(chooser.threads(1))
        chooser.report(1, 0.04 if used[-1] == 2 else 0.8)
    assert 2 <= used.count(1) <= 8


def test_a_prompt_and_a_size_not_seen_before_are_spared_the_trial() -> None:
    chooser = ThreadTuner(2)
    while chooser.threads(1) == 2:
        chooser.report(1, 0.02)
    assert chooser.threads(None) == chooser.threads(8) == 2
    for _ in range(3):
        chooser.report(8, 0.1)
    assert chooser.threads(8) == 1
    assert chooser.threads(None) == 2


def test_a_single_core_has_no_choice() -> None:
    assert set(run(ThreadTuner(1), lambda threads: 0.1)) == {1}
