"""`tunesmith doctor --gpu` on the processor, with a tiny shape."""

from tests.cli.conftest import Tunesmith


def test_doctor_says_what_it_could_try(tunesmith: Tunesmith) -> None:
    ran = tunesmith("doctor")
    assert (ran.code, ran.out) == (2, "")
    assert "tunesmith doctor --gpu" in ran.err


def test_doctor_refuses_a_gpu_that_is_not_there(tunesmith: Tunesmith) -> None:
    ran = tunesmith("doctor", "--gpu", "--device", "cuda:77", "--shape", "tiny", "--json")
    assert (ran.code, ran.out) == (1, "")
