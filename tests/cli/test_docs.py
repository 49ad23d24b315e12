"""docs/cli.md is what the commands say of themselves."""

import importlib.util
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cli_reference", REPOSITORY / "scripts" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_is_up_to_date() -> None:
    """After a change: python scripts/cli_reference.py"""
    written = (REPOSITORY / "docs" / "cli.md").read_text("utf-8")
    assert script().reference() == written


def test_reference_covers_groups_options_and_exit_codes() -> None:
    reference = script().reference()
    for expected in (
        "tunesmith jobs resume JOB",
        "`--exit-when-idle`",
        "`--lr-multiplier`",
        "| 130 |",
        "`tunesmith worker`",
    ):
        assert expected in reference
