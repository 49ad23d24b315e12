"""The jail of python graders: what tries to leave it, seen from outside, and the next honest call."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from tests.processes import children
from tests.security.jail import inside, outside
from tests.security.jail.case import Case
from tests.security.jail.system_calls import RAW

from tunesmith.graders.jail.jail import Jail, JailLimits
from tunesmith.graders.jail.places import Ticket
from tunesmith.graders.jail.process import CallDied, CallLeft, CallTimedOut
from tunesmith.graders.jail.syscalls import machine

GROUPS = {
    "network": outside.NETWORK,
    "files": outside.FILES,
    "processes": outside.PROCESSES,
    "memory": inside.MEMORY,
    "endless": inside.ENDLESS,
    "crashes": inside.CRASHES,
    "lies": inside.LIES,
    "channel": inside.CHANNEL,
}
CASES = {f"{group}: {case.name}": case for group, cases in GROUPS.items() for case in cases}
HONEST = "import json\ndef grade(sample, item): return len(sample['output_text']) / 8"
LIMITS = JailLimits(seconds=20, memory_mib=512)
ZYGOTE = "tunesmith.graders.jail.zygote"


@dataclass
class World:
    """What stands outside the jail, and must be untouched."""

    jail: Jail
    outside: Path
    item: dict[str, object]
    secret: str
    listening: list[socket.socket] = field(default_factory=list)

    def ask(self, source: str, seconds: float = 20.0, item: dict[str, object] | None = None) -> tuple[str, str]:
        """(outcome, text) of a call with that source."""
        ticket = Ticket()
        asked = {"source": source, "sample": {"output_text": "12345678"}, "item": self.item if item is None else item}
        try:
            answer = self.jail.ask(json.dumps(asked).encode(), "a", ticket, seconds)
        except CallTimedOut:
            return "late", ""
        except CallDied as error:
            return "died", error.message
        finally:
            ticket.close()
        return answer.kind, answer.text or str(answer.score)

    def check_untouched(self) -> None:
        """Nothing came out: no connection, no file, no process."""
        for one in self.listening:
            with pytest.raises(BlockingIOError):
                one.accept() if one.type == socket.SOCK_STREAM else one.recv(99)
        assert sorted(path.name for path in self.outside.iterdir()) == ["api-key", "socket"]
        assert (self.outside / "api-key").read_text() == self.secret
        assert self.ask(HONEST) == ("score", "1.0")

    def processes(self) -> list[int]:
        """The numbers of processes below each of ours: a zygote has its inner one and what that keeps ready."""
        deadline = time.monotonic() + 10
        while True:
            found = [len(_below(one)) for one in children(ZYGOTE)]
            if set(found) <= {2} or time.monotonic() > deadline:
                return found
            time.sleep(0.02)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    jail = Jail(LIMITS)
    lacking = jail.missing()
    if lacking is not None:
        assert "hole" not in lacking
        pytest.skip(f"no jail here: {lacking}")
    folder = tmp_path_factory.mktemp("data")
    secret = "marker-" + secrets.token_hex(8)
    (folder / "api-key").write_text(secret)
    os.environ["SECRET_OF_THE_TEST"] = secret
    with ExitStack() as stack:
        tcp, udp, unix, abstract = (
            stack.enter_context(socket.socket(family, kind))
            for family, kind in (
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
            )
        )
        name = f"tunesmith-{secret}"[:20]
        for one, address in ((tcp, ("127.0.0.1", 0)), (udp, ("127.0.0.1", 0)), (unix, None), (abstract, f"\0{name}")):
            one.bind(address or str(folder / "socket"))
            one.setblocking(False)
        for one in (tcp, unix, abstract):
            one.listen()
        item = {
            "port": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": str(folder / "socket"),
            "abstract": name,
            "secret": str(folder / "api-key"),
            "outside": str(folder),
            "home": str(Path.home()),
            "server": os.getpid(),
        }
        yield World(jail, folder, item, secret, [tcp, udp, unix, abstract])
    del os.environ["SECRET_OF_THE_TEST"]
    jail.stop()


def as_grader(body: str) -> str:
    return "def grade(sample, item):\n" + textwrap.indent(body, "    ")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_nothing_leaves_the_jail(world: World, case: Case) -> None:
    other: dict[str, object] = {"elsewhere-" * 2: ["elsewhere-abc" * 9] * 99}
    assert world.ask(HONEST, item=other) == ("score", "1.0")
    outcome, text = world.ask(as_grader(case.body), case.seconds)
    assert outcome in case.outcome.split("|"), text
    assert re.search(case.text, text), text
    assert world.secret not in text
    assert sys.base_prefix not in text
    world.check_untouched()


def test_no_process_is_left_and_none_is_missing(world: World) -> None:
    """Runs after the cases: daemons, stopped and endless ones among them."""
    found = world.processes()
    assert found
    assert set(found) == {2}


@pytest.mark.parametrize("name", RAW)
def test_a_system_call_by_its_number_is_refused(world: World, name: str) -> None:
    x86_64, aarch64, arguments = RAW[name]
    number = x86_64 if machine() == "x86_64" else aarch64
    if number is None:
        pytest.skip("this architecture has no such call")
    body = (
        "import ctypes, os\nl = ctypes.CDLL(None, use_errno=True)\n"
        f"r = l.syscall(*[ctypes.c_long(n) for n in {(number, *arguments)}])\n"
        "raise ValueError((r, ctypes.get_errno(), os.getpid()))"
    )
    outcome, text = world.ask(as_grader(body))
    assert (outcome, text.partition(", ")[0]) == ("fault", "ValueError: (-1")
    assert text.split(", ")[1] == "1"  # EPERM, from the filter; a call let through fails otherwise, by its arguments
    assert world.ask(HONEST) == ("score", "1.0")


def test_clone3_is_missing_so_that_libraries_use_clone(world: World) -> None:
    body = (
        "import ctypes\nl = ctypes.CDLL(None, use_errno=True)\nr = l.syscall(435, 0, 0)\n"
        "raise ValueError(r, ctypes.get_errno())"
    )
    assert world.ask(as_grader(body)) == ("fault", "ValueError: (-1, 38)\nline 5, in grade")
    started = "import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()\nreturn 1"
    assert world.ask(as_grader(started)) == ("score", "1.0")


STATE = {  # what one call leaves behind, and what the next one sees
    "a module's global": ("import json\njson.left = 1", "import json\nreturn hasattr(json, 'left')"),
    "a module of its own": ("import sys\nsys.modules['left'] = 1", "import sys\nreturn 'left' in sys.modules"),
    "its own module": ("global left\nleft = 1", "return 'left' in globals()"),
    "builtins": ("import builtins\nbuiltins.left = 3", "import builtins\nreturn hasattr(builtins, 'left')"),
    "a file": ("open('left', 'w')", "import os\nreturn os.listdir('.') != []"),
    "a file in tmp": (
        "import sys\nif not sys.prefix.startswith('/tmp/'): open('/tmp/left', 'w')",  # else it is read only
        "import os\nreturn os.path.exists('/tmp/left')",
    ),
    "the environment": ("import os\nos.environ['LEFT'] = '1'", "import os\nreturn 'LEFT' in os.environ"),
    "the working directory": ("import os\nos.mkdir('d')\nos.chdir('d')", "import os\nreturn os.getcwd() != '/grader'"),
    "umask": ("import os\nos.umask(0o777)", "import os\nreturn os.umask(0) != 0o022"),
    "the signal mask": (
        "import signal\nsignal.pthread_sigmask(0, [10])",
        "import signal\nreturn len(signal.pthread_sigmask(0, [])) > 0",
    ),
    "a signal handler": (
        "import signal\nsignal.signal(10, signal.SIG_IGN)",
        "import signal\nreturn signal.getsignal(10) != signal.SIG_DFL",
    ),
    "a timer": ("import signal\nsignal.alarm(1)", "import signal\nreturn signal.alarm(0) != 0"),
    "random numbers": ("import random\nrandom.seed(1)", "import random\nreturn random.random() == 0.13436424411240122"),
    "numpy's random numbers": (
        "import numpy\nnumpy.random.seed(1)",
        "import numpy\nreturn numpy.random.rand() == 0.417022004702574",
    ),
    "the decimal context": (
        "import decimal\ndecimal.getcontext().prec = 3",
        "import decimal\nreturn decimal.getcontext().prec != 28",
    ),
    "the locale": (
        "import locale\nlocale.setlocale(locale.LC_ALL, 'C')",
        "import locale\nreturn locale.setlocale(locale.LC_CTYPE) != 'C.UTF-8'",
    ),
    "the recursion limit": (
        "import sys\nsys.setrecursionlimit(50)",
        "import sys\nreturn sys.getrecursionlimit() != 1000",
    ),
    "an import hook": ("import sys\nsys.meta_path.clear()", "import sys\nreturn not sys.meta_path"),
    "the search path": ("import sys\nsys.path.clear()", "import sys\nreturn not sys.path"),
    "warnings": (
        "import warnings\nwarnings.simplefilter('error')",
        "import warnings\nreturn warnings.filters[0][0] == 'error'",
    ),
    "a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "import threading\nreturn threading.active_count() != 1",
    ),
    "a class's attribute": ("import decimal\ndecimal.left = 1", "import decimal\nreturn hasattr(decimal, 'left')"),
    "a cached small int": (
        "import ctypes\nctypes.memset(id(77) + 24, 9, 1)",
        "return 70 + 7 != int('77') or str(77) != '77'",
    ),
    "a time zone": ("import os, time\nos.environ['TZ'] = 'X9'\ntime.tzset()", "import time\nreturn time.timezone != 0"),
    "the seed of hashes": ("pass", "return hash('a') != hash('a')"),
    "a descriptor": ("import os\nos.open('/dev/null', 0)", "import os\nx = os.open('/dev/null', 0)\nreturn x != 3"),
    "flags of standard output": (
        "import fcntl\nfor fd in (0, 1, 2): fcntl.fcntl(fd, fcntl.F_SETFL, 0o6000)",
        "import fcntl\nreturn any(fcntl.fcntl(fd, fcntl.F_GETFL) & 0o6000 for fd in (0, 1, 2))",
    ),
    "standard output": ("import sys\nsys.stdout = None", "import sys\nreturn sys.stdout is None"),
}


@pytest.mark.parametrize("name", STATE)
def test_no_state_passes_from_call_to_call(world: World, name: str) -> None:
    leave, look = STATE[name]
    everyone = world.jail.places + 2  # so that each of the jail's processes has had one
    for _ in range(everyone):
        assert world.ask(as_grader(f"{leave}\nreturn 1")) == ("score", "1.0")
    found = [
        world.ask(as_grader(f"def look():\n{textwrap.indent(look, '    ')}\nreturn int(look())"))
        for _ in range(everyone)
    ]
    assert set(found) == {("score", "0.0")}


def test_processes_that_are_killed_are_replaced_and_no_caller_sees_it(world: World) -> None:
    killed = children(ZYGOTE, recursive=True)
    assert len(killed) >= 3
    for child in killed:
        with suppress(psutil.NoSuchProcess):  # it died with the one before
            child.kill()
    _await_end([child.pid for child in killed])
    world.check_untouched()


def test_nothing_outlives_a_server_that_is_killed(world: World) -> None:
    script = (
        "import os, sys, psutil\nfrom tunesmith.graders.jail.jail import Jail, JailLimits\n"
        "assert Jail(JailLimits(20, 512)).missing() is None\n"
        "print(*[one.pid for one in psutil.Process().children(recursive=True)], flush=True)\nos.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    numbers = [int(number) for number in ran.stdout.split()]
    assert len(numbers) >= 3, ran.stderr
    _await_end(numbers)


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):  # it has just ended
        return list(process.children(recursive=True))
    return []


def _await_end(numbers: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(_lives, numbers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_lives, numbers))


def _lives(number: int) -> bool:
    try:
        return bool(psutil.Process(number).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_caller_who_leaves_frees_the_place(world: World) -> None:
    ticket = Ticket()
    ticket.leave()
    begun = time.monotonic()
    with pytest.raises(CallLeft):
        world.jail.ask(
            json.dumps({"source": as_grader("while True: pass"), "sample": {}, "item": {}}).encode(), "a", ticket
        )
    ticket.close()
    assert time.monotonic() - begun < 5
    world.check_untouched()


def test_a_source_is_read_while_all_places_are_taken(world: World) -> None:
    endless = as_grader("while True: pass")
    threads = [threading.Thread(target=world.ask, args=(endless, 3.0)) for _ in range(world.jail.places + 1)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    ticket, begun = Ticket(), time.monotonic()
    assert world.jail.read(endless, "b", ticket).kind == "score"
    assert time.monotonic() - begun < 2
    ticket.close()
    for thread in threads:
        thread.join()
    world.check_untouched()


def test_processes_that_nobody_uses_end_and_come_back(world: World) -> None:
    others = set(psutil.Process().children())
    jail = Jail(LIMITS, idle_seconds=0.5)
    idle = World(jail, world.outside, world.item, world.secret)
    assert jail.missing() is None
    started = set(psutil.Process().children()) - others
    assert started
    _await_end([child.pid for child in started])
    assert idle.ask(HONEST) == ("score", "1.0")
    jail.stop()


REFUSING = """
import asyncio, ctypes, struct
from tunesmith.errors import InvalidRequest
from tunesmith.graders.jail import kernel
from tunesmith.graders.jail.jail import JailLimits
from tunesmith.graders.python_code import PythonGrader, check_python

# A filter as a container's: one system call fails.
steps = [(0x20, 0, 0, 0), (0x15, 1, 0, CALL), (6, 0, 0, 0x7FFF0000), (0x20, 0, 0, 16), (0x15, 1, 0, FIRST)]
steps += [(6, 0, 0, 0x7FFF0000), (6, 0, 0, 0x50000 | ERROR)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in steps))
kernel.prctl(38, 1)
kernel.prctl(22, 2, ctypes.c_char_p(struct.pack("@HP", len(steps), ctypes.addressof(program))))
try:
    grader = PythonGrader("a", "def grade(s, i): return 1.0", "grader.source")
    asyncio.run(check_python(grader, JailLimits(5, 512), "a"))
except InvalidRequest as error:
    print(error.param, error.message)
"""


@pytest.mark.parametrize(
    ("call", "first", "error", "told"),
    [
        ((272, 97), 0x10000000, 1, "this user may not make user namespaces (unshare(user): Operation not permitted)"),
        ((272, 97), 0x00020000, 1, "a user namespace gives no rights here (unshare(mount): Operation not permitted)"),
        ((155, 41), None, 38, "a user namespace gives no rights here (pivot_root: Function not implemented)"),
        ((444, 444), 0, 38, "this kernel, or the container, has no Landlock (landlock_create_ruleset: Function not"),
        ((157, 167), 22, 22, "this kernel, or the container, has no seccomp filters"),
    ],
    ids=["user namespaces", "mount namespaces", "pivot_root", "Landlock", "seccomp"],
)
def test_a_kernel_that_cannot_jail_refuses_by_name(
    world: World, call: tuple[int, int], first: int | None, error: int, told: str
) -> None:
    number = call[0 if machine() == "x86_64" else 1]
    script = REFUSING.replace("CALL", str(number)).replace("ERROR", str(error))
    script = script.replace(", 0, FIRST)", ", 1, 0)" if first is None else f", 0, {first})")
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stdout.startswith(f"grader.type Python graders are not run here: {told}"), ran.stderr
