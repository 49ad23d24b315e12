"""A server process of our own for a benchmark that asks over HTTP."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.settings import Settings


@contextmanager
def server(settings: Settings, *, worker: bool = False) -> Iterator[tuple[tuple[str, int], float]]:
    """`tunesmith serve` on a free port: its address, and how many seconds it took to answer."""
    with tempfile.TemporaryDirectory() as folder:
        ready, log_file = Path(folder) / "ready.json", Path(folder) / "server.log"
        command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0", *([] if worker else ["--no-worker"])]
        environment = {**os.environ, "TUNESMITH_DATA_DIR": str(settings.paths.root)}
        environment["TUNESMITH_LIMIT_UPLOADS_PER_MINUTE"] = str(settings.limit_uploads_per_minute)
        if settings.database_url:
            environment["TUNESMITH_DATABASE_URL"] = settings.database_url
        started = time.perf_counter()
        with log_file.open("wb") as log:
            process = subprocess.Popen([*command, "--ready-file", str(ready)], env=environment, stdout=log, stderr=log)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise SystemExit(log_file.read_text())
                time.sleep(0.05)
            url = str(json.loads(ready.read_text())["base_url"])
            host, _, port = url.removeprefix("http://").removesuffix("/v1").partition(":")
            yield (host, int(port)), time.perf_counter() - started
        finally:
            process.terminate()
            process.wait()
