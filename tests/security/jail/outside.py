"""Attempts to reach what is outside of the jail: the network, files and processes."""

from tests.security.jail.case import DENIED, Case

GONE = "FileNotFoundError|No such file"
SOCKET = "import socket\n"

NETWORK = [
    Case("tcp to the service", SOCKET + "return socket.create_connection(('127.0.0.1', item['port']), 2)", text=DENIED),
    Case("tcp listener", SOCKET + "return socket.create_server(('127.0.0.1', 0))", text=DENIED),
    Case(
        "udp",
        SOCKET + "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'x', ('127.0.0.1', item['udp']))",
        text=DENIED,
    ),
    Case("ipv6", SOCKET + "return socket.socket(socket.AF_INET6, socket.SOCK_STREAM)", text=DENIED),
    Case("raw ip", SOCKET + "return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", text=DENIED),
    Case("packets", SOCKET + "return socket.socket(17, socket.SOCK_RAW, 768)", text=DENIED),
    Case("netlink", SOCKET + "return socket.socket(16, socket.SOCK_RAW, 0)", text=DENIED),
    Case("vsock", SOCKET + "return socket.socket(40, socket.SOCK_STREAM)", text=DENIED),
    Case("unix socket", SOCKET + "socket.socket(socket.AF_UNIX).connect(item['unix'])", text=DENIED),
    Case("abstract socket", SOCKET + "socket.socket(socket.AF_UNIX).connect('\\0' + item['abstract'])", text=DENIED),
    Case("socket pair", SOCKET + "return socket.socketpair()", text=DENIED),
    Case("name service", SOCKET + "return socket.getaddrinfo('example.com', 80)", text="gaierror|" + DENIED),
    Case(
        "http",
        "import urllib.request\nreturn urllib.request.urlopen(f'http://127.0.0.1:{item[\"port\"]}/', timeout=2).read()",
        text="URLError",
    ),
    Case(
        "asyncio",
        "import asyncio\nreturn asyncio.run(asyncio.open_connection('127.0.0.1', item['port']))",
        text=DENIED,
    ),
    Case(
        "inherited descriptors as sockets",
        SOCKET + "found = []\n"
        "for fd in range(256):\n"
        "    try:\n        found.append(socket.socket(fileno=fd))\n"
        "    except OSError:\n        pass\n"
        "assert found, 'no socket here'",
        text="no socket here",
    ),
    Case(
        "another architecture's socket call",
        "import ctypes\nx32 = ctypes.CDLL(None, use_errno=True)\n"
        "assert x32.syscall(ctypes.c_long(41 | 0x40000000), 1, 1, 0) >= 0, 'refused'",
        text="refused",
    ),
    Case(
        "a 32-bit socket call in machine code",
        "import ctypes, mmap, platform\nassert platform.machine() == 'x86_64', 'int 0x80 is of x86'\n"
        "m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)\n"
        "m.write(bytes.fromhex('b814000000cd80c3'))\n"
        "return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
        "died|fault",
        "SIGSYS|SIGSEGV|int 0x80 is of x86",
    ),
]

FILES = [
    Case("the api key", "return open(item['secret']).read()", text=GONE),
    Case("whether the api key is there", "import os\nos.stat(item['secret'])", text=GONE),
    Case("the data directory", "import os\nreturn os.listdir(item['outside'])", text=GONE),
    Case("write beside the data", "open(item['outside'] + '/planted', 'w').write('x')", text=GONE),
    Case("delete the data", "import shutil\nshutil.rmtree(item['outside'])", text=GONE),
    Case("home", "import os\nraise OSError(os.listdir(item['home']))", text=GONE + "|" + DENIED),
    Case("ssh keys", "return open(item['home'] + '/.ssh/id_rsa').read()", text=GONE),
    Case("passwd", "return open('/etc/passwd').read()", text=GONE),
    Case("shadow", "return open('/etc/shadow').read()", text=GONE),
    Case("hosts", "return open('/etc/hosts').read()", text=GONE),
    Case("the list of the root", "import os\nreturn os.listdir('/')", text=DENIED),
    Case("the list of dev", "import os\nreturn os.listdir('/dev')", text=DENIED),
    Case("own environment by proc", "return open('/proc/self/environ').read()", text=GONE),
    Case("the server's environment", "return open(f'/proc/{item[\"server\"]}/environ').read()", text=GONE),
    Case("all environments", "import glob\nassert glob.glob('/proc/*/environ'), 'nothing there'", text="nothing there"),
    Case("the root of process 1", "return open('/proc/1/root/etc/passwd').read()", text=GONE),
    Case("the server's memory file", "return open(f'/proc/{item[\"server\"]}/mem', 'rb').read(9)", text=GONE),
    Case("descriptors by dev", "return open('/dev/fd/0').read()", text=GONE),
    Case("sys", "return open('/sys/kernel/security/lsm').read()", text=GONE),
    Case("memory by dev", "return open('/dev/mem', 'rb').read(1)", text=GONE),
    Case("shared memory by dev", "return open('/dev/shm/x', 'w')", text=GONE),
    Case("writing into the source of randomness", "open('/dev/urandom', 'wb').write(b'x')", text=DENIED),
    Case("a folder in the root", "import os\nos.mkdir('/x')", text=DENIED + "|Read-only"),
    Case("the terminal", "return open('/dev/tty', 'w')", text=GONE + "|Read-only"),
    Case("up and out", "return open('../' * 30 + item['secret'].lstrip('/')).read()", text=GONE),
    Case("symlink", "import os\nos.symlink(item['secret'], 'l')\nreturn open('l').read()", text=GONE),
    Case("symlink of the root", "import os\nos.symlink('/', 'l')\nreturn os.listdir('l')", text=DENIED),
    Case("hard link", "import os\nos.link(item['secret'], 'l')", text=GONE),
    Case(
        "hard link of a library",
        "import os\nos.link(os.__file__, 'l')\nreturn open('l', 'a')",
        text="Errno 1[38]|" + DENIED,
    ),
    Case("the library's source", "import os\nopen(os.__file__, 'a').write('x')", text=DENIED + "|Read-only"),
    Case("a new library", "import os\nopen(os.path.dirname(os.__file__) + '/x.py', 'w')", text=DENIED + "|Read-only"),
    Case("mode of a library", "import os\nos.chmod(os.__file__, 0o777)", text=DENIED + "|Read-only"),
    Case("date of a library", "import os\nos.utime(os.__file__)", text=DENIED + "|Read-only"),
    Case("removing a library", "import os\nos.remove(os.__file__)", text=DENIED + "|Read-only"),
    Case("a device of its own", "import os\nos.mknod('d', 0o600 | 0o20000, os.makedev(1, 1))", text=DENIED),
    Case("a pipe in its folder", "import os\nos.mkfifo('p')", text=DENIED),
    Case("another root", "import os\nos.chroot('/grader')", text=DENIED),
    Case(
        "inherited descriptors",
        "import os\nfound = []\n"
        "for fd in range(1024):\n"
        "    try:\n        found.append((fd, os.fstat(fd).st_mode >> 12))\n"
        "    except OSError:\n        pass\n"
        "assert found != [(0, 2), (1, 2), (2, 2), (4, 1)], 'only the null device and the answer'",
        text="only the null device",
    ),
    Case(
        "secrets in the environment",
        "import os\nassert any('TUNESMITH' in name or 'KEY' in name for name in os.environ), sorted(os.environ)",
        text="AssertionError: .'HOME'",
    ),
    Case(
        "own machine code in its folder",
        "import ctypes, shutil, math\nshutil.copy(math.__file__, 'own.so')\nreturn ctypes.CDLL('./own.so')",
        text="failed to map segment|Operation not permitted|Permission denied",
    ),
    Case(
        "a disk full of data", "f = open('f', 'wb')\nfor _ in range(100): f.write(b'x' * (1 << 20))", text="Errno 2[78]"
    ),
    Case(
        "a disk full in many files",
        "for n in range(100):\n    with open(f'f{n}', 'wb') as f: f.write(b'x' * (1 << 20))",
        text="No space",
    ),
    Case("a disk full of empty files", "for n in range(100_000): open(f'f{n}', 'wb').close()", text="No space"),
    Case(
        "a disk full of links",
        "import os\nopen('f', 'w')\nfor n in range(100_000): os.link('f', f'l{n}')",
        text="No space|Too many",
    ),
    Case(
        "locks without end",
        "import fcntl\nf = open('f', 'w')\nfor n in range(10**6): fcntl.lockf(f, 2, 1, 2 * n)",
        text=DENIED,
    ),
]

PROCESSES = [
    Case("fork", "import os\nif os.fork() == 0: os._exit(0)\nreturn 1.0", text=DENIED),
    Case(
        "fork bomb",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError as e: last = e; break\nraise last",
        text=DENIED,
    ),
    Case(
        "memory spread over children",
        "import os\nkept = []\nfor _ in range(8):\n    if os.fork() == 0:\n        kept.append(bytearray(1 << 29))",
        text=DENIED,
    ),
    Case("terminal fork", "import pty\nreturn pty.fork()", text=DENIED + "|pty|out of pty"),
    Case("a program", "import subprocess\nreturn subprocess.run(['/bin/sh', '-c', 'id'])", text=DENIED),
    Case("a shell", "import os\nassert os.system('id') == 0, 'refused'", text="refused"),
    Case("posix_spawn", "import os\nreturn os.posix_spawn('/bin/true', ['true'], {})", text=DENIED + "|" + GONE),
    Case("exec", "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', ''])", text=DENIED),
    Case(
        "multiprocessing",
        "import multiprocessing as m\nm.get_context('fork').Process(target=print).start()",
        text=DENIED,
    ),
    Case(
        "process pool",
        "from concurrent.futures import ProcessPoolExecutor as P\nreturn P().submit(int).result()",
        text="Error",
    ),
    Case(
        "a daemon",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n    os._exit(0)",
        text=DENIED,
    ),
    Case(
        "threads without end",
        "import threading\nthreading.stack_size(32768)\nend = threading.Event()\n"
        "for n in range(5000): threading.Thread(target=end.wait, daemon=True).start()",
        text="can't start new thread",
    ),
    Case("signal to process 1", "import os\nos.kill(1, 9)", text=DENIED + "|ProcessLookupError"),
    Case("signal to the server", "import os\nos.kill(item['server'], 9)", text=DENIED),
    Case("signal to all", "import os\nos.kill(-1, 9)", text=DENIED),
    Case("signal to the group", "import os\nos.killpg(0, 9)", text=DENIED),
    Case("signal to a neighbour", "import os\nfor n in (-1, 1, 2): os.kill(os.getpid() + n, 9)", text=DENIED),
    Case("pidfd", "import os\nreturn os.pidfd_open(1)", text=DENIED),
    Case("its limits", "import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))", text=DENIED + "|not allowed"),
    Case("limits of another", "import resource as r\nr.prlimit(1, r.RLIMIT_AS, (-1, -1))", text=DENIED),
    Case("limits lowered", "import resource as r\nr.setrlimit(r.RLIMIT_CPU, (1, 1))", text=DENIED + "|not allowed"),
    Case("priority", "import os\nos.nice(-20)", text=DENIED),
    Case("superuser", "import os\nos.setuid(0)", text=DENIED),
    Case("groups", "import os\nos.setgroups([0])", text=DENIED),
    Case("processors", "import os\nos.sched_setaffinity(0, {0})", text=DENIED),
    Case(
        "new namespaces",
        "import ctypes\nl = ctypes.CDLL(None)\nassert l.unshare(0x10000000) == 0, 'refused'",
        text="refused",
    ),
    Case(
        "a mount",
        "import ctypes\nl = ctypes.CDLL(None)\nassert l.mount(b'/', b'/grader', None, 4096, None) == 0, 'refused'",
        text="refused",
    ),
    Case("pipes", "import os\nreturn os.pipe()", text=DENIED),
    Case("memory file", "import os\nreturn os.memfd_create('x')", text=DENIED),
    Case("semaphores", "import multiprocessing\nreturn multiprocessing.Lock()", text="Error"),
    Case(
        "shared memory",
        "from multiprocessing.shared_memory import SharedMemory\nreturn SharedMemory(create=True, size=9)",
        text="Error",
    ),
]
