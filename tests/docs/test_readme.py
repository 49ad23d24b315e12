"""The README's file tree is the tree that is here."""

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="the tree is read from git")
def test_file_tree_is_up_to_date() -> None:
    """After adding, removing or renaming a file: make docs"""
    spec = importlib.util.spec_from_file_location("readme_tree", REPOSITORY / "scripts" / "readme_tree.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (REPOSITORY / "README.md").read_text("utf-8")
    assert script.with_tree(text) == text
