"""Attempts to take too much, to crash, and to lie about the score."""

from tests.security.jail.case import DENIED, Case

NO_ROOM = "MemoryError"

MEMORY = [
    Case("a list", "x = []\nwhile True: x.append(bytes(10_000))", text=NO_ROOM),
    Case("bytes", "return bytearray(4 << 30)", text=NO_ROOM),
    Case("text", "return 'x' * (4 << 30)", text=NO_ROOM),
    Case("a growing text", "x = 'x'\nwhile True: x += x", text=NO_ROOM),
    Case(
        "private mapping",
        "import mmap\nreturn mmap.mmap(-1, 4 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
        text="Errno 12",
    ),
    Case("shared mapping", "import mmap\nreturn mmap.mmap(-1, 4 << 30)", text="Errno 1[ 2]|" + DENIED),
    Case(
        "shared mappings that shrink",
        "import ctypes\nl = ctypes.CDLL(None)\nl.mmap.restype = ctypes.c_void_p\n"
        "for _ in range(64):\n"
        "    at = l.mmap(None, ctypes.c_size_t(64 << 20), 3, 0x21, -1, ctypes.c_long(0))\n"
        "    assert at != 2**64 - 1, 'refused'\n"
        "    ctypes.memset(at, 1, 64 << 20)\n"
        "    l.munmap(ctypes.c_void_p(at + 4096), ctypes.c_size_t((64 << 20) - 4096))",
        text="refused",
    ),
    Case(
        "mapped file",
        "import mmap\nf = open('f', 'wb+')\nf.truncate(4 << 30)\nreturn mmap.mmap(f.fileno(), 4 << 30)",
        text="Errno 27",
    ),
    Case("numpy", "import numpy\nreturn float(numpy.ones((1 << 29, 4)).sum())", text="MemoryError"),
    Case("a large power", "x = 1 << (1 << 33)", text=NO_ROOM),
    Case("a dictionary", "x = {}\nwhile True: x[len(x)] = 'x' * 1000", text=NO_ROOM),
    Case("repeated pattern", "import re\nreturn re.compile('(' * 50 + 'a' + '{1,60000})' * 50)", text="Error"),
    Case(
        "memory kept in spite",
        "x = []\nwhile True:\n    try: x.append(bytearray(1 << 20))\n    except MemoryError: break\nreturn 0.25",
        "score",
        "0.25",
    ),
    Case(
        "memory in threads",
        "import threading\nx, out = [], []\n"
        "def eat():\n    try:\n        while True: x.append(bytearray(1 << 20))\n"
        "    except MemoryError: out.append(1)\n"
        "t = [threading.Thread(target=eat) for _ in range(4)]\n[one.start() for one in t]\n[one.join() for one in t]\n"
        "x.clear()\nreturn len(out)",
        "score",
        "4.0",
    ),
]

ENDLESS = [
    Case("a loop", "while True: pass", "late", seconds=0.4),
    Case(
        "a loop that catches",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "late",
        seconds=0.4,
    ),
    Case("a pattern", "import re\nreturn re.match('(a+)+$', 'a' * 60 + 'b')", "late", seconds=0.4),
    Case("a power", "return 3 ** 50_000_000 % 7", "late", seconds=0.4),
    Case("a sort", "return sorted(iter(lambda: 1, 2))[0]", "late|fault", "MemoryError|", seconds=0.4),
    Case("sleep", "import time\ntime.sleep(3600)", "late", seconds=0.4),
    Case("a lock", "import threading\nthreading.Lock().acquire() and threading.Barrier(2).wait()", "late", seconds=0.4),
    Case(
        "all signals blocked",
        "import signal\nsignal.pthread_sigmask(0, range(1, 65))\nwhile True: pass",
        "late",
        seconds=0.4,
    ),
    Case("stopped", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "late", seconds=0.4),
    Case(
        "a thread that goes on",
        "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\nreturn 0.25",
        "score",
        "0.25",
    ),
    Case(
        "a flood of output",
        "import os\nwhile True: os.write(1, b'x' * 65536); os.write(2, b'x' * 65536)",
        "late",
        seconds=0.4,
    ),
    Case("printing a lot", "for _ in range(100_000): print('x' * 100)\nreturn 0.25", "score", "0.25"),
    Case("in the source", "pass\nwhile_ = [0 for _ in iter(int, 1)]", "late", seconds=0.4),
]

CRASHES = [
    Case("null pointer", "import ctypes\nctypes.string_at(0)", "died", "SIGSEGV"),
    Case("a wild jump", "import ctypes\nctypes.CFUNCTYPE(None)(1)()", "died", "SIG"),
    Case("abort", "import os\nos.abort()", "died", "SIGABRT"),
    Case("an exit", "import os\nos._exit(0)", "died", "exit status 0"),
    Case("an exit with a code", "import os\nos._exit(7)", "died", "exit status 7"),
    Case("sys.exit", "import sys\nsys.exit(0)", text="SystemExit"),
    Case("KeyboardInterrupt", "raise KeyboardInterrupt", text="KeyboardInterrupt"),
    Case("GeneratorExit", "raise GeneratorExit", text="GeneratorExit"),
    Case("an exception of its own", "class E(BaseException): pass\nraise E('mine')", text="E: mine"),
    Case(
        "an exception that cannot be shown",
        "class E(Exception):\n    def __str__(self): raise self\nraise E",
        text="cannot be shown",
    ),
    Case(
        "an exception that exits",
        "import os\nclass E(Exception):\n    def __str__(self): os._exit(3)\nraise E",
        "died",
        "exit status 3",
    ),
    Case("an endless text", "raise ValueError('x' * 10_000_000)", text="^ValueError: x{100}"),
    Case("recursion", "def f(): return f()\nreturn f()", text="RecursionError"),
    Case(
        "recursion without a limit",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(*a): return max([1], key=f)\nreturn f()",
        "died|fault",
        "SIGSEGV|MemoryError",
    ),
    Case("a signal", "import os\nos.kill(os.getpid(), 9)", "died", "ended it"),
    Case("an alarm", "import signal, time\nsignal.alarm(1)\ntime.sleep(10)", "died", "SIGALRM"),
    Case("an exit handler", "import atexit, os\natexit.register(os._exit, 5)\nreturn 0.25", "score", "0.25"),
    Case(
        "unraisable", "class D:\n    def __del__(self): raise SystemExit\nx = D()\ndel x\nreturn 0.25", "score", "0.25"
    ),
    Case("no return", "pass", text="NoneType"),
    Case(
        "a thread that exits",
        "import threading, os\nthreading.Thread(target=os._exit, args=(4,)).start()\nimport time\ntime.sleep(5)",
        "died",
        "exit status 4",
    ),
]

LIES = [
    Case("nan", "return float('nan')", text="finite"),
    Case("inf", "return float('inf')", text="finite"),
    Case("minus inf", "return -float('inf')", text="finite"),
    Case("True", "return True", text="bool"),
    Case("False", "return False", text="bool"),
    Case("None", "return None", text="NoneType"),
    Case("text", "return '1.0'", text="type str"),
    Case("bytes", "return b'1'", text="type bytes"),
    Case("Decimal", "from decimal import Decimal\nreturn Decimal(1)", text="type Decimal"),
    Case("Fraction", "from fractions import Fraction\nreturn Fraction(1, 2)", text="type Fraction"),
    Case("complex", "return 1j", text="type complex"),
    Case("a huge int", "return 10 ** 400", text="too large"),
    Case("a list of a number", "return [1.0]", text="type list"),
    Case(
        "an object that claims to be a float",
        "class F:\n    def __float__(self): return 1.0\nreturn F()",
        text="type F",
    ),
    Case("an object that lies of its class", "class F:\n    __class__ = float\nreturn F()", text="TypeError"),
    Case("an int that lies", "class I(int):\n    def __float__(self): return 9e99\nreturn I(1)", text="type I"),
    Case("an enum", "from enum import IntEnum\nreturn IntEnum('E', 'A').A", text="type E"),
    Case(
        "a float that lies",
        "class F(float):\n    def __float__(self): return 99.0\n    def __repr__(self): return '99'\nreturn F(0.25)",
        "score",
        "0.25",
    ),
    Case("numpy's nan", "import numpy\nreturn numpy.float32('nan')", text="finite"),
    Case("numpy's bool", "import numpy\nreturn numpy.bool_(True)", text="bool"),
    Case("numpy's complex", "import numpy\nreturn numpy.complex64(1)", text="type str"),
    Case("numpy's text", "import numpy\nreturn numpy.str_('1')", text="type str"),
    Case("an array", "import numpy\nreturn numpy.array([1.0, 2.0])", text="Error"),
    Case(
        "a module that pretends",
        "class F:\n    def item(self): return 7.0\nF.__module__ = 'numpy'\nreturn F()",
        "score",
        "7.0",
    ),
    Case(
        "an async function", "async def f(): return 1.0\nx = f()\ntry: return x\nfinally: x.close()", text="coroutine"
    ),
    Case("a generator", "yield 1.0", text="generator"),
]

FORGED = (
    "import os, struct\ndef send(kind, payload, fd=4): os.write(fd, struct.pack('=cI', kind, len(payload)) + payload)\n"
)
CHANNEL = [
    Case("its own score", FORGED + "send(b's', struct.pack('=d', 0.75))\nreturn 0.25", "score", "0.75"),
    Case(
        "on all descriptors",
        FORGED + "for fd in range(64):\n    try: send(b's', struct.pack('=d', 0.75), fd)\n"
        "    except OSError: pass\nreturn 0.25",
        "score",
        "0.75",
    ),
    Case("nan", FORGED + "send(b's', struct.pack('=d', float('nan')))", "died", "wrote over"),
    Case("a score of three bytes", FORGED + "send(b's', b'abc')", "died", "wrote over"),
    Case("an endless length", FORGED + "os.write(4, struct.pack('=cI', b'e', 2**32 - 1))", "died", "wrote over"),
    Case("an unknown kind", FORGED + "send(b'X', b'')", "died", "wrote over"),
    Case("readiness again", "import os\nos.write(4, b'rrrrrrrrrr')", "died", "wrote over"),
    Case("a jail that broke", FORGED + "send(b'j', b'broken')", "died", "wrote over"),
    Case("a wrong source", FORGED + "send(b'w', b'is wrong')", "wrong source", "is wrong"),
    Case("control characters", FORGED + r"send(b'e', b'\x1b[2J\x00\xff')", text=r"^\?\[2J"),
    Case("half an answer", FORGED + "os.write(4, b's\\x08')\nos._exit(0)", "died", "exit status 0"),
    Case("two answers", FORGED + "for x in (0.75, 0.5): send(b's', struct.pack('=d', x))", "score", "0.75"),
    Case("json lines", "import os\nos.write(4, b'{\"score\": 1}\\n' * 9)", "died", "wrote over"),
    Case("a flood", "import os\nwhile True: os.write(4, b'e' * 65536)", "died", "wrote over"),
    Case("a closed channel", "import os\nos.close(4)\nreturn 0.25", "died", ""),
    Case("another pipe in its place", "import os\nos.dup2(1, 4)\nreturn 0.25", "died", ""),
    Case("a patched struct", "import struct\nstruct.Struct = struct.pack = None\nreturn 0.25", "score", "0.25"),
    Case("a patched os", "import os\nos.write = lambda fd, data: len(data)\nreturn 0.25", "died", "exit status 0"),
    Case("a patched json", "import json\njson.loads = json.dumps = None\nreturn 0.25", "score", "0.25"),
    Case(
        "patched builtins",
        "import builtins\nbuiltins.isinstance = lambda *_: True\nbuiltins.float = None\nreturn 0.25",
        "score|fault",
        "0.25|Error",
    ),
    Case(
        "a patched harness",
        "import sys\nfor n, m in list(sys.modules.items()):\n    if 'jail' in n: m.__dict__.clear()\nreturn 0.25",
        "died|fault",
        "",
    ),
    Case(
        "the harness's frames",
        "import sys\nf, seen = sys._getframe(), []\n"
        "while f:\n    seen += [repr(v)[:2000] for v in (*f.f_locals.values(), *f.f_globals.values())]\n"
        "    f = f.f_back\n"
        "raise ValueError([one for one in seen if 'else' + 'where-' in one])",
        text=r"^ValueError: \[\]",
    ),
    Case(
        "other calls' data among all objects",
        "import gc\nnames = [k for o in gc.get_objects() if isinstance(o, dict) for k in o if isinstance(k, str)]\n"
        "found = [k for k in names if k.startswith('elsewhere-')]\n"
        "raise ValueError(found)",
        text=r"^ValueError: \[\]",
    ),
    Case(
        "other calls' data in freed memory",
        "import ctypes, re\nl = ctypes.CDLL(None)\nl.sbrk.restype = ctypes.c_void_p\n"
        "pattern, found = re.compile('else'.encode() + b'where-[a-z]'), []\n"
        "def scan(low, high):\n"
        "    for page in range(low & -4096, high, 4096):\n"
        "        if l.msync(ctypes.c_void_p(page), ctypes.c_size_t(4096), 1) == 0:\n"
        "            found.extend(pattern.findall(ctypes.string_at(page, 4096)))\n"
        "end = l.sbrk(0)\nscan(end - (24 << 20), end)\nhere = id(object())\nscan(here - (8 << 20), here + (8 << 20))\n"
        "raise ValueError(found)",
        text=r"^ValueError: \[\]",
    ),
    Case(
        "all objects deleted",
        "import gc\nfor o in gc.get_objects():\n    if type(o) is dict: o.clear()",
        "died|fault",
        "",
    ),
]
