"""Aliases in the database: one process sets them, the others see them at once."""

from pathlib import Path

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store, read_aliases


def test_an_alias_is_seen_by_another_open_store_changed_and_removed(store: Store, store_settings: Settings) -> None:
    other = open_store(store_settings)
    try:
        assert dict(other.aliases.all()) == {}
        store.aliases.set("gpt-4o-mini", "small")
        store.aliases.set("fast", "small")
        assert dict(other.aliases.all()) == {"gpt-4o-mini": "small", "fast": "small"}
        other.aliases.set("gpt-4o-mini", "large")
        assert store.aliases.all()["gpt-4o-mini"] == "large"
        assert dict(store.of("default").aliases.all()) == {"gpt-4o-mini": "large", "fast": "small"}
        assert other.aliases.remove("fast")
        assert not store.aliases.remove("fast")
        assert dict(store.aliases.all()) == {"gpt-4o-mini": "large"}
        assert dict(read_aliases(store_settings)) == {"gpt-4o-mini": "large"}
    finally:
        other.close()


def test_without_a_database_there_are_none_and_none_is_made(tmp_path: Path) -> None:
    assert read_aliases(Settings(data_dir=tmp_path / "gone")) == {}
    assert not (tmp_path / "gone").exists()
