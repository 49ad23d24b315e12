"""What a server says once it answers."""

from pathlib import Path

import pytest
from tests.cli.output.conftest import Printed, widest, words

from tunesmith.cli.commands.serve import Banner
from tunesmith.settings import OPENAI_MODELS, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data", base_model="smollm2-135m-instruct")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_banner_has_the_address_and_where_the_key_is(printed: Printed, settings: Settings, width: int) -> None:
    settings.paths.api_key_file.write_text("sk-tunesmith-secret")
    banner = Banner(settings, "http://127.0.0.1:8000/v1", "sk-tunesmith-secret", worker=True)
    shown = printed(width, banner.print)
    assert "sk-tunesmith-secret" not in words(shown).replace(" ", "")  # it may go to a log
    assert f"in{settings.paths.api_key_file}" in words(shown).replace(" ", "")
    assert "export OPENAI_BASE_URL=http://127.0.0.1:8000/v1\n" in shown  # never folded: it is copied
    assert f"export OPENAI_API_KEY=$(cat {settings.paths.api_key_file})\n" in shown
    assert "one, beside the API" in words(shown)
    facts = shown.partition("In another terminal")[0]
    assert f"in {settings.paths.api_key_file}\n" in facts  # nor are paths
    assert widest(facts.replace(str(settings.paths.root), "")) <= width


def test_banner_of_a_later_start_never_shows_the_key(printed: Printed, settings: Settings) -> None:
    banner = Banner(settings, "http://127.0.0.1:8000/v1", None, worker=False)
    assert "make one with: tunesmith keys create NAME" in words(printed(200, banner.print))
    settings.paths.api_key_file.write_text("sk-secret")
    shown = words(printed(200, banner.print))
    assert f"API key in {settings.paths.api_key_file}" in shown
    assert "sk-secret" not in shown
    assert "none here (tunesmith worker)" in shown


def test_banner_names_what_is_kept_elsewhere_and_no_password(
    printed: Printed, settings: Settings, postgres_url: str
) -> None:
    plain = words(printed(200, Banner(settings, "http://h/v1", None, worker=True).print))
    assert "database" not in plain
    url = postgres_url.replace("postgres@", "postgres:secret@")
    moved = {"database_url": url, "storage": "s3://bucket/prefix"}
    there = Banner(settings.model_copy(update=moved), "http://h/v1", None, worker=True)
    said = words(printed(200, there.print))
    assert "database postgresql://postgres:***@/postgres?" in said
    assert "files s3://bucket/prefix" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("aliases", "shown"),
    [
        ({}, f"babbage-002, davinci-002, gpt-3.5-turbo and {len(OPENAI_MODELS) - 3} more ("),
        (dict.fromkeys(OPENAI_MODELS, ""), "none (tunesmith models list)"),
        ({**dict.fromkeys(OPENAI_MODELS[2:], ""), "gpt-3.5-turbo": "other"}, "gpt-3.5-turbo-0613 ("),
    ],
)
def test_banner_names_three_aliases_of_its_base(
    printed: Printed, settings: Settings, aliases: dict[str, str], shown: str
) -> None:
    settings = settings.model_copy(update={"aliases": aliases, "bases": {"other": "/models/other"}})
    assert f"aliases {shown}" in words(printed(200, Banner(settings, "http://h/v1", None, worker=True).print))


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)])
def test_banner_warns_of_a_server_that_the_network_can_reach(
    printed: Printed, settings: Settings, capfd: pytest.CaptureFixture[str], host: str, warned: bool
) -> None:
    settings = settings.model_copy(update={"host": host})

    def run() -> None:
        Banner(settings, "http://h/v1", None, worker=True).print()
        assert ("can be reached from the network" in capfd.readouterr().err) == warned

    printed(80, run)
