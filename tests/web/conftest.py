"""The real site over a real SQLite store; only the worker is played, through the store's own worker side."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.databases import Migrated

from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Role, Store, open_store
from tunesmith.web.site import Site, create_site

SignIn = Callable[..., TestClient]  # role=, project=


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", organization="acme", max_file_bytes=2_000_000)


@pytest.fixture
def store(settings: Settings, migrated: Migrated) -> Iterator[Store]:
    store = open_store(migrated(settings))
    yield store
    store.close()


@pytest.fixture
def site(settings: Settings, store: Store) -> Site:
    return create_site(settings, store, Pool(settings))


@pytest.fixture
def stranger(site: Site) -> Iterator[TestClient]:
    """A browser that is not signed in."""
    with TestClient(site, base_url="http://localhost", follow_redirects=False) as client:
        yield client


@pytest.fixture
def sign_in(site: Site, stranger: TestClient, store: Store) -> SignIn:
    """A browser that is signed in with a new key; its header has the token that forms carry."""

    def sign_in(role: Role = "owner", project: str = "default") -> TestClient:
        raw, _ = store.keys.create("browser", role=role, project=project)
        browser = TestClient(site, base_url="http://localhost", follow_redirects=False)  # `stranger` runs the lifespan
        assert browser.post("/ui/sign-in", data={"key": raw}).status_code == 303
        page = browser.get("/").text
        browser.headers["x-csrf-token"] = page.split('data-csrf="')[1].split('"')[0]
        return browser

    return sign_in


@pytest.fixture
def browser(sign_in: SignIn) -> TestClient:
    return sign_in()
