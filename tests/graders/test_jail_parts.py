"""The parts of the jail that need no kernel: turns, frames, the filter's program, the sentences about what fails."""

import math
import struct
import threading
import time

import pytest

from tunesmith.errors import ServiceUnavailable
from tunesmith.graders.jail import frames, seccomp, support
from tunesmith.graders.jail.places import Places, Ticket
from tunesmith.graders.jail.syscalls import ALL, ARCHITECTURES, AUDIT_ARCH, number

EPERM, ENOSYS = 0x00050001, 0x00050026


def verdict(architecture: str, call: int, *arguments: int, machine: int | None = None) -> int:
    """What the filter returns for a system call: its program, run here."""
    words = [value for one in (*arguments, *[0] * 6)[:6] for value in (one & 0xFFFFFFFF, one >> 32 & 0xFFFFFFFF)]
    data = struct.pack("=IIQ12I", call, machine or AUDIT_ARCH[architecture], 0, *words)
    program = list(struct.iter_unpack("=HBBI", seccomp.program(7, architecture)))
    at, held = 0, 0
    while True:
        code, yes, no, operand = program[at]
        at += 1
        if code == seccomp.LOAD:
            (held,) = struct.unpack_from("=I", data, operand)
        elif code == seccomp.AND:
            held &= operand
        elif code == seccomp.RETURN:
            return int(operand)
        else:
            at += yes if {seccomp.EQUAL: held == operand, seccomp.AT_LEAST: held >= operand}[code] else no


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("read", (), True),
        ("openat", (), True),
        ("clone", (0x003D0F00,), True),
        ("clone", (17,), False),
        ("clone", (0x003D0F00 | 0x10000000,), False),
        ("kill", (7, 9), True),
        ("kill", (1, 9), False),
        ("tgkill", (7, 8, 9), True),
        ("tgkill", (8, 8, 9), False),
        ("prctl", (15,), True),
        ("prctl", (22,), False),
        ("fcntl", (4, 3), True),
        ("fcntl", (4, 6), False),
        ("ioctl", (1, 0x5401), True),
        ("ioctl", (1, 0x5412), False),
        ("mmap", (0, 4096, 3, 0x22), True),
        ("mmap", (0, 4096, 3, 0x01), True),
        ("mmap", (0, 4096, 3, 0x21), False),
        ("mmap", (0, 4096, 3, 0x23), False),
        ("prlimit64", (0, 9, 0, 4096), True),
        ("prlimit64", (0, 9, 4096, 0), False),
        ("prlimit64", (0, 9, 1 << 32, 0), False),
        ("prlimit64", (1, 9, 0, 4096), False),
        ("capset", (), False),
        ("landlock_restrict_self", (), False),
    ],
)
def test_a_call_is_judged_by_its_arguments(
    architecture: str, name: str, arguments: tuple[int, ...], allowed: bool
) -> None:
    called = number(name, architecture)
    assert called is not None
    assert verdict(architecture, called, *arguments) == (seccomp.ALLOW if allowed else EPERM)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unknown_calls_and_foreign_ones_are_refused(architecture: str) -> None:
    clone3 = number("clone3", architecture)
    assert clone3 is not None
    assert verdict(architecture, clone3) == ENOSYS
    known = {number(name, architecture) for name in ALL}
    unknown = [call for call in range(600) if call not in known]
    assert {verdict(architecture, call) for call in unknown} == {EPERM}
    assert verdict(architecture, 0x40000000) == EPERM
    read = number("read", architecture)
    assert read is not None
    assert verdict(architecture, read, machine=0x40000003) == seccomp.KILL  # 32-bit calls have other numbers


def test_no_number_stands_twice() -> None:
    for index in range(len(ARCHITECTURES)):
        numbers = [one[index] for one in ALL.values() if one[index] is not None]
        assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    "data",
    [b"X\0\0\0\0", b"s\7\0\0\0", b"e\xff\xff\xff\xff", b"e\x01\x40\0\0", frames.NO_JAIL + b"\0\0\0\0"],
    ids=["kind", "length of a score", "endless", "too long", "no answer to a call"],
)
def test_what_is_no_answer_is_refused_by_its_head(data: bytes) -> None:
    with pytest.raises(ValueError, match="no such"):
        frames.missing_bytes(data)


def test_an_answer_says_what_is_missing_of_it() -> None:
    whole = frames.HEAD.pack(b"s", 8) + struct.pack("=d", 0.5)
    assert [frames.missing_bytes(whole[:length]) for length in (0, 3, 5, 12, 13)] == [5, 2, 8, 1, 0]
    assert frames.read_answer(whole).score == 0.5
    with pytest.raises(ValueError, match="finite"):
        frames.read_answer(frames.HEAD.pack(b"s", 8) + struct.pack("=d", math.nan))


def test_owners_take_turns() -> None:
    places, order = Places(1, waiting=10), list[str]()

    def call(owner: str) -> None:
        ticket = Ticket()
        with places.held(owner, ticket):
            order.append(owner)
        ticket.close()

    first = Ticket()
    threads = [threading.Thread(target=call, args=(owner,)) for owner in "aaaab"]
    with places.held("a", first):
        for waiting, thread in enumerate(threads, 1):
            thread.start()
            while places.waiting() < waiting:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    first.close()
    assert "".join(order) == "abaaa"


def test_a_full_line_is_a_503_for_its_owner_only() -> None:
    places, first, second, third = Places(1, waiting=1), Ticket(), Ticket(), Ticket()
    stayed: list[bool] = []

    def wait() -> None:
        with places.held("a", second) as staying:
            stayed.append(staying)

    with places.held("a", first):
        thread = threading.Thread(target=wait)
        thread.start()
        while not places.waiting():
            time.sleep(0.001)
        with pytest.raises(ServiceUnavailable, match="1 python graders"), places.held("a", third):
            pass
        second.leave()
        thread.join()
    assert (stayed, places.waiting()) == ([False], 0)
    for ticket in (first, second, third):
        ticket.close()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("unshare(user): Operation not permitted", "user.max_user_namespaces"),
        ("uid_map: Operation not permitted", "user.max_user_namespaces"),
        ("unshare(mount): Operation not permitted", "kernel.apparmor_restrict_unprivileged_userns"),
        ("mount(tmpfs): Permission denied", "kernel.apparmor_restrict_unprivileged_userns"),
        ("the jail's process has ended", "the jail's process has ended"),
    ],
)
def test_a_step_that_fails_is_explained(fault: str, named: str) -> None:
    assert named in support.sentence(fault)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (frames.Answer("score", score=1.0), None),
        (frames.Answer("score", score=0.5), "the jail's own test failed: "),
        (frames.Answer("fault", "Hole: it forked\nline 3"), "the jail's own test found a hole: Hole: it forked"),
        (frames.Answer("fault", "ModuleNotFoundError: a"), "the jail's own test failed: ModuleNotFoundError: a"),
    ],
    ids=["holds", "another score", "a hole", "a library that cannot be read"],
)
def test_the_jails_own_test_has_a_verdict(answer: frames.Answer, told: str | None) -> None:
    assert support.verdict(answer) == told
