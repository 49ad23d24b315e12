"""What our processes start: nothing from the working directory is run, and no key is passed on to who needs none."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.cli.server.test_private import open_to_others
from tests.servers import serving, wait_until
from tests.train.conftest import of_tiny_base, write_tiny_base

from tunesmith.client import Client
from tunesmith.launch.child import ChildLauncher
from tunesmith.settings import Settings
from tunesmith.store import Lease, NewJob, Store
from tunesmith.system.python import module_command, without_keys
from tunesmith.worker import integrations
from tunesmith.worker.evaluation import EvaluationRun

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tunesmith"
JOKES = ROOT / "examples" / "weather-jokes.jsonl"
POISON = ("platformdirs", "numpy", "torch", "wandb", "structlog", "orjson", "pydantic", "numba", "json", "safetensors")
ALLOWED = {"system/python.py", "kernels/compiler.py"}  # kernels may import nothing of system
KEYS = {
    "TUNESMITH_MODERATION_API_KEY": "sk-the-moderators",
    "TUNESMITH_SERVE_REMOTE_KEY": "sk-the-servers",
    "WANDB_API_KEY": "sk-the-trackers",
    "TUNESMITH_API_KEY": "sk-the-owners",
    "SOMEBODYS_PASSWORD": "sk-somebodys",
}


def module_flags(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every "-m" within a list or tuple: the start of a module as a program."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple):
            yield from (one for one in node.elts if isinstance(one, ast.Constant) and one.value == "-m")


def test_every_child_is_started_by_the_one_helper() -> None:
    texts = {file: file.read_text("utf-8") for file in SOURCE.rglob("*.py")}
    found = {
        f"{file.relative_to(SOURCE)}"
        for file, text in texts.items()
        if re.search("""["']-m["']""", text)  # parsing all files takes seconds
        for flag in module_flags(ast.parse(text))
    }
    assert found - {"train/protocol/environment.py"} == ALLOWED  # that one compares a command line
    for file in ALLOWED:
        for flag in module_flags(ast.parse((SOURCE / file).read_text("utf-8"))):
            assert '"-P", "-m"' in (SOURCE / file).read_text("utf-8").splitlines()[flag.lineno - 1]
    executes = [file for file, text in texts.items() if "sys.executable" in text]
    others = {str(file.relative_to(SOURCE)) for file in executes} - ALLOWED
    assert others == {"train/protocol/environment.py"}  # it replaces itself, by the helper's command


def test_helpers_command_does_not_run_what_lies_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "platform.py").write_text("raise SystemExit(9)")
    assert subprocess.run([sys.executable, "-m", "json.tool", "-h"], cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "argparse.py").write_text("raise SystemExit(9)")
    assert subprocess.run([sys.executable, "-m", "json.tool", "-h"], cwd=tmp_path, capture_output=True).returncode == 9
    assert subprocess.run(module_command("json.tool", "-h"), cwd=tmp_path, capture_output=True).returncode == 0


@dataclass(frozen=True, slots=True)
class First:
    """What the commands of somebody's first day said, in the folder of a download; where their data is."""

    said: dict[str, str]
    data_dir: Path


@pytest.fixture(scope="module")
def first(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> First:
    """The folder holds a data set, and modules that leave a marker beside it when they are run."""
    place = tmp_path_factory.mktemp("first")
    folder, base = place / "downloaded", place / "base"
    folder.mkdir()
    base.mkdir()
    for name in POISON:
        (folder / f"{name}.py").write_text(f"open({str(place / 'ran-')!r} + __name__, 'w')\nraise SystemExit(7)\n")
    (folder / "rows.jsonl").write_bytes(JOKES.read_bytes())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment |= {"TUNESMITH_DATA_DIR": str(place / "data"), "PYTHONPATH": str(SOURCE.parent)}
    environment.pop("TUNESMITH_BASE_URL", None)
    environment |= of_tiny_base(write_tiny_base(base_dir, base))
    said = {}
    for command in (
        ["train", "rows.jsonl", "--epochs", "1", "--batch-size", "12", "--validation", "rows.jsonl"],
        ["check", "rows.jsonl", "--json"],
        ["estimate", "rows.jsonl"],
        ["jobs", "list"],
    ):
        ran = subprocess.run(
            module_command("tunesmith.cli", *command),
            cwd=folder,
            env=environment,
            umask=0o022,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert ran.returncode == 0, (command, ran.stderr[-2000:])
        said[command[0]] = ran.stdout
    return First(said, place / "data")


def test_no_command_and_no_child_runs_code_of_the_working_directory(first: First) -> None:
    assert list(first.data_dir.parent.glob("ran-*")) == []


def test_first_command_of_a_client_leaves_nothing_that_others_can_read(first: First) -> None:
    made = [first.data_dir, *first.data_dir.rglob("*")]
    names = {path.name for path in made}
    assert {
        "tunesmith.db",
        "server.log",
        "api-key",
        "attempt-2.spec.json",
        "adapter_model.safetensors",
        "attempt-2.evaluation.spec.json",
        "evaluation.json",
    } <= names
    verdict = re.search("\nverdict +(.+)", first.said["train"])
    assert verdict is not None
    cards = [path.read_text("utf-8") for path in made if path.name == "card.md"]
    assert any(verdict[1][:20] in card for card in cards)
    assert open_to_others(made) == []
    log = (first.data_dir / "server.log").read_text("utf-8")
    assert (first.data_dir / "api-key").read_text("utf-8").strip() not in log
    assert str(first.data_dir / "api-key") in log


def test_names_of_keys_are_known() -> None:
    kept = {"PATH": "/bin", "TUNESMITH_PORT": "1", "KEYBOARD": "us", "TOKENIZERS_PARALLELISM": "false"}
    gone = {"OPENAI_API_KEY": "1", "HF_TOKEN": "1", "aws_secret_access_key": "1", "PGPASSWORD": "1"}
    assert without_keys({**kept, **gone, **KEYS, "TUNESMITH_DATABASE_URL": "postgres://u:p@h/d"}) == kept


CLOUD = {
    "AWS_ACCESS_KEY_ID": "cloud-1",
    "AWS_SECRET_ACCESS_KEY": "cloud-2",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://cloud-3",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/cloud-4",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountKey=cloud-5",
    "AZURE_CLIENT_ID": "cloud-6",
    "GOOGLE_SERVICE_ACCOUNT": "cloud-7",
    "GOOGLE_APPLICATION_CREDENTIALS": "/cloud-8",
    "PGPASSFILE": "/cloud-9",
    "IDENTITY_ENDPOINT": "http://cloud-10",
}


def test_what_opens_an_object_storage_is_known() -> None:
    assert without_keys({**CLOUD, "AWSOME": "yes", "TUNESMITH_STORAGE": "s3://b/p"}) == {
        "AWSOME": "yes",
        "TUNESMITH_STORAGE": "s3://b/p",
    }


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, **CLOUD, "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)


def told(environment: Mapping[str, str] | None) -> list[str]:
    """The names of the secrets in it; None is our own environment."""
    known = {*KEYS.values(), *CLOUD.values()}
    return sorted(
        name for name, value in (os.environ if environment is None else environment).items() if value in known
    )


@pytest.mark.usefixtures("secrets")
def test_an_evaluation_is_started_without_any_key(store: Store) -> None:
    job = store.jobs.create(NewJob("base", "base", "file-" + "0" * 24, "acme", 1, {}, {"type": "supervised"}))
    settings = Settings(data_dir=Path("/nowhere"))
    started = EvaluationRun(store, settings, job, Lease(job.id, "worker", 1), ChildLauncher())._start()
    assert told(os.environ) != []
    assert told(started.environment) == []


@pytest.mark.usefixtures("secrets")
def test_weights_and_biases_gets_its_own_key_alone() -> None:
    found = integrations._environment(Settings(wandb_api_key=SecretStr("ours")))
    assert told(found) == []
    assert (found["WANDB_API_KEY"], found["WANDB_MODE"]) == ("ours", "offline")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_running_trainer_has_no_key_in_its_environment(
    tmp_path: Path, small_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**KEYS, **CLOUD}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    with serving(tmp_path, bases=small_base) as server:
        client = Client(server.base_url, server.key)
        job = client.create_job({"model": "gpt-3.5-turbo", "training_file": client.upload(JOKES).id})
        try:
            wait_until(lambda: bool(trainers(server.data_dir)), 60, "the trainer's start")
            environments = [(Path("/proc") / str(pid) / "environ").read_bytes() for pid in trainers(server.data_dir)]
        finally:
            client.change_job(job.id, "cancel")
            client.close()
    assert b"TUNESMITH_DATA_DIR" in environments[0]
    assert [secret for secret in known.values() if any(secret.encode() in one for one in environments)] == []


def trainers(data_dir: Path) -> list[int]:
    """Ids of the processes that run a trainer with a spec of this directory."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"tunesmith.train" in command and str(data_dir).encode() in command:
            found.append(int(folder.name))
    return found
