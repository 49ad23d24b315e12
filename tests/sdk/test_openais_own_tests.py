"""The tests that OpenAI ships in the source of its Python client, for our areas, against a seeded real server.

They call every method plainly, with all parameters, raw and streamed, with and without strict validation, with the
synchronous and both asynchronous clients, and hold each answer against the client's types. `make test` sends each
request with one of the three, raw or streamed in turn. What is put in place of the ids that they make up is said in
`placeholders.py`, what fails and why in `exclusions.toml`.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.environments import BARE_PYTEST, VENVS, environment
from tests.samples import WHOLE
from tests.servers import serving

VERSION = "3.54.0"
SHA256 = "2e393e63f8a38be6452806f9ef0b6534fecd6d41ab3b2165180dfce3599249cd"
PLUGINS = (
    "aiohappyeyeballs==2.7.1",
    "aiohttp==3.14.5",
    "aiosignal==1.4.0",
    "attrs==26.1.0",
    "frozenlist==1.8.0",
    "httpx-aiohttp==0.2.0",
    "multidict==7.2.1",
    "propcache==0.5.4",
    "pytest-asyncio==1.5.0",
    "yarl==1.25.1",
)
FILES = (
    "chat/completions/test_messages.py",
    "chat/test_completions.py",
    "evals/runs/test_output_items.py",
    "evals/test_runs.py",
    "fine_tuning/alpha/test_graders.py",
    "fine_tuning/checkpoints/test_permissions.py",
    "fine_tuning/jobs/test_checkpoints.py",
    "fine_tuning/test_jobs.py",
    "test_completions.py",
    "test_evals.py",
    "test_files.py",
    "test_models.py",
    "test_moderations.py",
    "test_uploads.py",
    "uploads/test_parts.py",
)
NAMES = ("gpt-4o-mini", "gpt-6-astra", "gpt-3.5-turbo-instruct")  # that those tests ask for
HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "scripts"
FOLDER = "tests/api_resources/"

CONFIGURATION = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
filterwarnings = ignore::DeprecationWarning
"""


@dataclass(frozen=True, slots=True)
class Exclusion:
    tests: re.Pattern[str]
    reason: str


def exclusions() -> list[Exclusion]:
    entries = tomllib.loads((HERE / "exclusions.toml").read_text("utf-8")).get("exclusion", [])
    return [Exclusion(re.compile(entry["tests"]), entry["reason"]) for entry in entries]


@pytest.fixture(scope="session")
def source() -> Path:
    """The unpacked source distribution, fetched once."""
    folder = VENVS / "openai-source" / f"openai-{VERSION}"
    if not folder.exists():
        wanted = folder.parent / "wanted.txt"
        folder.parent.mkdir(parents=True, exist_ok=True)
        wanted.write_text(f"openai=={VERSION} --hash=sha256:{SHA256}\n", "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "openai"]
        done = subprocess.run([*command, "--dest", folder.parent, "-r", wanted], capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"The source of openai {VERSION} could not be fetched; this needs PyPI once.\n{done.stderr}")
        with tarfile.open(folder.with_name(f"{folder.name}.tar.gz")) as archive:
            archive.extractall(folder.parent, filter="data")
    return folder.resolve()


@pytest.fixture(scope="session")
def results(source: Path, small_base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """`file::name[variant]` -> None when it passed, else what was wrong."""
    directory = tmp_path_factory.mktemp("sdk")
    python = environment("openai3-own", *PLUGINS, shared=True)
    configuration, report = directory / "pytest.ini", directory / "report.json"
    configuration.write_text(CONFIGURATION, "utf-8")
    command = [str(python), "-m", "pytest", "-q", "-c", str(configuration), "--rootdir", str(source), "--tb=short"]
    command += ["-k", "not loose"]  # the same requests as `strict`, whose answers are validated more laxly
    command += ["-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-p", "placeholders"]
    command += [f"{FOLDER}{file}" for file in FILES]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = os.pathsep.join([str(HERE), str(HERE.parent), str(SCRIPTS), inherited.get("PYTHONPATH", "")])
    aliases = json.dumps(dict.fromkeys(NAMES, "smollm2-135m-instruct"))
    settings = {"aliases": aliases, "chat_max_tokens": "2", "serve_weights": "float32", "bases": small_base}
    with serving(directory, "--no-worker", **settings) as server:
        given = {"PYTHONPATH": path, "TEST_API_BASE_URL": server.base_url, "TUNESMITH_TESTED": server.to_json()}
        given |= {**BARE_PYTEST, "TUNESMITH_REPORT": str(report)}
        done = subprocess.run(command, env={**inherited, **given}, cwd=source, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout[-5000:] + done.stderr[-5000:]
    outcomes: dict[str, str | None] = json.loads(report.read_text("utf-8"))
    return {name.removeprefix(FOLDER): fault for name, fault in outcomes.items()}


@pytest.mark.parametrize("file", FILES)
def test_openais_tests_pass(results: dict[str, str | None], file: str) -> None:
    own = {name: fault for name, fault in results.items() if name.startswith(f"{file}::")}
    assert own, f"{file} is gone from openai {VERSION}"
    excluded = [one.tests for one in exclusions()]
    faults = {name: fault for name, fault in own.items() if fault and not any(one.fullmatch(name) for one in excluded)}
    assert faults == {}


def test_each_request_is_sent_by_one_client_or_by_all(results: dict[str, str | None]) -> None:
    sent = Counter(name.partition("[")[0].replace("::TestAsync", "::Test") for name in results)
    assert {*sent.values()} == ({3} if WHOLE else {1})


@pytest.mark.parametrize("exclusion", exclusions(), ids=lambda one: one.tests.pattern)
def test_exclusion_is_still_needed(results: dict[str, str | None], exclusion: Exclusion) -> None:
    matched = {name: fault for name, fault in results.items() if exclusion.tests.fullmatch(name)}
    assert matched, "no test of this name"
    assert [name for name, fault in matched.items() if fault is None] == [], "these pass: take them out"
    assert exclusion.reason.strip()
