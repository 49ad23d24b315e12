"""docs/clients.md says which versions were tried; they are the ones that `make client-trials` installs."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_page_names_every_version_that_the_trials_install() -> None:
    script = (REPOSITORY / "scripts" / "client_trials.py").read_text(encoding="utf-8")
    page = (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8")
    pinned = re.findall(r'"[a-z-]+==([\d.]+)"', script)
    assert len(pinned) >= 4
    assert [version for version in pinned if version not in page] == []
