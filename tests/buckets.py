"""Fixtures of a real S3 server (moto's, in a process of its own) with an empty prefix for each test."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tunesmith.store.storage.bucket import Bucket, open_bucket

SERVER = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}

_numbers = count(1)


@contextmanager
def s3_server() -> Iterator[str]:
    """A server of our own; its URL. It has one bucket, `tunesmith`."""
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=log, stderr=log)
        try:
            endpoint = _endpoint(server, Path(f"/proc/self/fd/{log.fileno()}"))
            urlopen(Request(f"{endpoint}/tunesmith", data=b"", method="PUT"), timeout=10).close()
            yield endpoint
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait(10)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def storage(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a prefix that nothing is below yet; the environment has its credentials and endpoint."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    return f"s3://tunesmith/test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def bucket(storage: str) -> Bucket:
    return open_bucket(storage)


def keys(bucket: Bucket) -> set[str]:
    """Every key below the bucket's prefix."""
    return {one.key for folder in ("files", "unclaimed", "uploads", "probes", "jobs") for one in bucket.list(folder)}


def _endpoint(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text("utf-8", "replace"))) is None:
        if server.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"moto's server does not start (pip install 'moto[server]'): {log.read_text()}")
        time.sleep(0.05)
    return found[1]
