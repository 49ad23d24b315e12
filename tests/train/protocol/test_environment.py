"""A trainer gets what the C library has to know at its start; what the user set is left alone."""

from tunesmith.train.protocol.environment import trainer_environment


def test_memory_is_kept_in_large_pages() -> None:
    environment = trainer_environment({"PATH": "/bin"})
    assert environment["PATH"] == "/bin"
    assert "glibc.malloc.hugetlb=1" in environment["GLIBC_TUNABLES"].split(":")


def test_tunables_that_are_set_stay() -> None:
    mine = {"GLIBC_TUNABLES": "glibc.malloc.check=1", "GOMP_SPINCOUNT": "7"}
    assert trainer_environment(mine) == mine


def test_threads_do_not_spin_for_long() -> None:
    assert int(trainer_environment({})["GOMP_SPINCOUNT"]) < 10_000


def test_an_environment_that_has_them_does_not_change() -> None:
    once = trainer_environment({})
    assert trainer_environment(once) == once
