"""A server process with its worker that can be killed and started again at the same address."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.servers import START_SECONDS, wait_until


class BrowserServer:
    """`tunesmith serve` on one port and one data directory, for as many lives as a test wants."""

    def __init__(self, directory: Path, **settings: str) -> None:
        """`settings`: without `TUNESMITH_`, in lower case."""
        self._settings = {f"TUNESMITH_{name.upper()}": value for name, value in settings.items()}
        self.data_dir = directory / "data"
        self._ready, self._log = directory / "ready.json", directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.data_dir / "api-key").read_text("utf-8").strip()

    def start(self) -> None:
        """Returns once it answers."""
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", str(self.port)]
        environment = {**os.environ, "TUNESMITH_DATA_DIR": str(self.data_dir), **self._settings}
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "--ready-file", str(self._ready)], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._process = process
        wait_until(lambda: self._ready.exists() or process.poll() is not None, START_SECONDS, "the server's start")
        assert process.poll() is None, self._log.read_text("utf-8")
        assert json.loads(self._ready.read_text("utf-8"))["base_url"].startswith(self.url)

    def kill(self) -> None:
        """As a power cut ends it; its worker ends with it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an operator ends it."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(timeout=40)
