"""`export`, `models card` and `reproduce` on a model of a tiny base that a server has trained."""

import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.cli.conftest import Server, Tunesmith, start_server, stop_server
from tests.train.conftest import chat_line, write_tiny_base
from transformers import AutoModelForCausalLM

from tunesmith.cli import run

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # in PEFT


@dataclass(frozen=True, slots=True)
class Trained:
    server: Server
    base: Path
    model: str
    folder: Path  # the model's own


@pytest.fixture(scope="module")
def made(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """A server on a tiny base, and a model that it has trained in ten steps."""
    root = tmp_path_factory.mktemp("tuned")
    (root / "base").mkdir()
    base = write_tiny_base(base_dir, root / "base")
    rows = root / "rows.jsonl"
    lines = (chat_line("Be brief.", f"Is {n} odd?", "Yes." if n % 2 else "No.") for n in range(10))
    rows.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_BASES", json.dumps({"tiny": str(base)}))
        patch.setenv("TUNESMITH_BASE_MODEL", "tiny")
        patch.setenv("OMP_NUM_THREADS", "1")
        server = start_server(root / "data")
        try:
            command = ("train", str(rows), "--validation", str(rows), "--epochs", "2", "--batch-size", "2", "--json")
            assert run([*command, "--data-dir", str(root / "data")]) == 0
            (folder,) = (root / "data" / "jobs").glob("*/output/adapter")
            model = json.loads((folder / "card.json").read_text("utf-8"))["model"]
            yield Trained(server, base, model, folder)
        finally:
            stop_server(server)


@pytest.fixture
def on_made(tunesmith: Tunesmith, made: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tunesmith:
    """A command on that server's data directory, in an empty directory."""
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(made.server.data_dir))
    monkeypatch.chdir(tmp_path)
    return tunesmith


def test_every_format_answers_as_the_served_model_does(on_made: Tunesmith, made: Trained, tmp_path: Path) -> None:
    assert on_made("export", made.model, "--to", "ollama", "--out", "ollama", "--no-verify").code == 0
    for kind in ("peft", "safetensors", "gguf"):
        ran = on_made("export", made.model, "--to", kind, "--out", kind, "--json")
        assert ran.code == 0, ran.err
        told = ran.json
        assert isinstance(told, dict)
        assert (told["model"], told["format"], told["folder"]) == (made.model, kind, kind)
        assert [one["question"] for one in told["answers"]] == [f"Is {n} odd?" for n in range(4)]
        assert all(one["equal"] or one["margin"] < 0.05 for one in told["answers"]), told["answers"]
        assert {one["name"]: one["bytes"] for one in told["files"]} == {
            path.name: path.stat().st_size for path in (tmp_path / kind).iterdir()
        }
        assert stat.S_IMODE((tmp_path / kind).stat().st_mode) == 0o700
    assert (tmp_path / "gguf" / "model.gguf").read_bytes() == (tmp_path / "ollama" / "model.gguf").read_bytes()
    assert "# Most of its training rows have this system message" in (tmp_path / "ollama" / "Modelfile").read_text(
        "utf-8"
    )
    ids = torch.tensor([[1, 500, 2, 700, 40]])
    base = AutoModelForCausalLM.from_pretrained(made.base)
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "safetensors")(input_ids=ids).logits
        plain = base(input_ids=ids).logits
        with_peft = PeftModel.from_pretrained(base, tmp_path / "peft").eval()(input_ids=ids).logits
    assert float((with_peft - merged).abs().max()) < 1e-4
    assert float((plain - merged).abs().max()) > 1e-3


def test_export_prints_files_and_a_table_and_takes_a_job_or_last(on_made: Tunesmith, made: Trained) -> None:
    job = json.loads((made.folder / "card.json").read_text("utf-8"))["job"]
    name = f"{re.sub('[:]+', '-', made.model.removeprefix('ft:'))}-peft"
    ran = on_made("export", job, "--to", "peft")
    assert ran.code == 0, ran.err
    assert f"{made.model} is in {name}:\n" in ran.out
    assert "  adapter_model.safetensors  " in ran.out
    assert re.search(r"Is 0 odd\?\s+(equal\s+-|differs after \d+ tokens\s+0\.0)", ran.out)
    again = on_made("export", "last", "--to", "peft", "--no-verify")
    assert again.err.endswith(f"error: {name} exists already. Remove it, or name another folder with --out.\n")
    other = on_made("export", "last", "--to", "peft", "--no-verify", "--out", "other")
    assert "question" not in other.out
    lines = (made.server.data_dir / "audit.log").read_text("utf-8").splitlines()
    assert json.loads(lines[-1])["deed"] == "model.exported"


def test_exports_say_what_is_wrong(on_made: Tunesmith, made: Trained, tmp_path: Path) -> None:
    ran = on_made("export", "ft:nothing", "--to", "peft")
    assert ran.code == 1
    assert "No model is called ft:nothing." in ran.err
    assert "No job is called ftjob-x." in on_made("export", "ftjob-x", "--to", "peft").err
    for command in (("export", made.model, "--to", "peft"), ("reproduce", made.model), ("models", "card", made.model)):
        ran = on_made(*command, "--base-url", "http://10.0.0.1:8000/v1")
        assert ran.code == 2
        assert "run it on the machine of the server at http://10.0.0.1:8000/v1" in ran.err
    assert on_made("models", "card", made.model, "--base-url", made.server.base_url).code == 0
    assert [*tmp_path.iterdir()] == []


def test_job_leaves_a_card_and_the_command_prints_it(on_made: Tunesmith, made: Trained) -> None:
    written = (made.folder / "card.md").read_text("utf-8")
    assert stat.S_IMODE((made.folder / "card.md").stat().st_mode) == 0o600
    ran = on_made("models", "card", made.model)
    assert ran.out == written
    for words in ("| training: rows | 10 |", "loss on the validation file, step", "| `seed` |", " torch 2."):
        assert words in written
    assert on_made("models", "card", made.model, "--json").json == json.loads((made.folder / "card.json").read_text())
    checkpoint = sorted((made.folder.parent / "checkpoints").iterdir())[0]
    assert json.loads((checkpoint / "card.json").read_text("utf-8"))["step"] == 5


def test_card_of_an_earlier_version_is_made_without_what_nobody_kept(on_made: Tunesmith, made: Trained) -> None:
    kept = (made.folder / "card.json").read_bytes()
    (made.folder / "card.json").unlink()
    try:
        ran = on_made("models", "card", made.model)
        assert ran.out.count("not known: made before cards were kept") == 2
        found, before = (json.loads(one) for one in ((made.folder / "card.json").read_bytes(), kept))
        assert {**found, "versions": None, "machine": None} == {**before, "versions": None, "machine": None}
    finally:
        (made.folder / "card.json").write_bytes(kept)


def test_training_again_gives_the_same_bits(on_made: Tunesmith, made: Trained) -> None:
    ran = on_made("reproduce", made.model)
    digest = json.loads((made.folder / "manifest.json").read_text("utf-8"))["sha256"]
    assert ran.out == f"{made.model} was trained again, and all bits are the same: SHA-256 {digest}\n", ran.err
    assert not [*made.server.data_dir.glob(".reproduce-*")]


def test_changed_versions_and_hardware_are_named_where_the_bits_differ(on_made: Tunesmith, made: Trained) -> None:
    kept = (made.folder / "card.json").read_bytes()
    record = json.loads(kept)
    manifest = (made.folder / "manifest.json").read_bytes()
    other = {**record, "sha256": "0" * 64, "versions": {**record["versions"], "torch": "1.0"}}
    other["machine"] = {**record["machine"], "processor": "Another"}
    (made.folder / "card.json").write_text(json.dumps(other))
    (made.folder / "manifest.json").write_text(json.dumps({**json.loads(manifest), "sha256": "0" * 64}))
    try:
        ran = on_made("reproduce", made.model, "--json")
        assert ran.code == 1
        told = ran.json
        assert isinstance(told, dict)
        assert (told["equal"], told["sha256"], told["again"]) == (False, "0" * 64, record["sha256"])
        assert [(one["input"], one["before"]) for one in told["changes"]] == [
            ("version of torch", "1.0"),
            ("processor", "Another"),
        ]
    finally:
        (made.folder / "card.json").write_bytes(kept)
        (made.folder / "manifest.json").write_bytes(manifest)


def test_changed_data_base_or_option_is_named_and_nothing_is_trained(on_made: Tunesmith, made: Trained) -> None:
    kept = (made.folder / "card.json").read_bytes()
    record = json.loads(kept)
    changes: dict[str, object] = {
        "the training file (SHA-256): 00 then, ": {"training": {**record["training"], "sha256": "00"}},
        "the base's files (SHA-256): 00 then, ": {"base": {**record["base"], "sha256": "00"}},
        "digest of data, base and options: ": {"spec": {**record["spec"], "seed": 123456}},
    }
    try:
        for said, change in changes.items():
            (made.folder / "card.json").write_text(json.dumps({**record, **change}))  # type: ignore[dict-item]
            ran = on_made("reproduce", made.model)
            assert ran.code == 1
            assert f"what the model was trained on has changed: {said}" in ran.err
    finally:
        (made.folder / "card.json").write_bytes(kept)


def test_a_deleted_model_whose_weights_an_imported_name_has_is_told_of(
    on_made: Tunesmith, made: Trained, tmp_path: Path
) -> None:
    old, models = "ft:gpt-4o-mini:acme::a", on_made("models", "list", "--json").json
    assert isinstance(models, list)
    new = next(one["id"] for one in models if one["id"].endswith(":ckpt-step-5"))
    assert made.model != new
    told = {"id": "ftjob-first0000", "model": "gpt-4o-mini", "created_at": 5, "status": "succeeded"}
    files = {"training_file": "file-MNu4SQN4hf2nJmWVXyv8qW", "fine_tuned_model": old, "trained_tokens": 7}
    (tmp_path / "jobs.json").write_text(json.dumps([{**told, **files}]), "utf-8")
    assert on_made("import", "openai", tmp_path).code == 0
    assert on_made("models", "replace", old, new).out == f"{old} is now answered by {new}.\n"
    assert "deleted" not in on_made("models", "replacements").out
    gone = on_made("models", "delete", new, "--yes")
    assert (gone.code, gone.out) == (0, f"{new} is deleted.\n")
    assert f"its weights still answer as {old}, and their files stay for that." in gone.err
    assert f"End it with: tunesmith models replace {old} --undo" in gone.err
    listed = on_made("models", "replacements").out
    assert f"{old}  {new} (deleted; its weights stay for this name)" in listed
    assert on_made("models", "replace", old, "--undo").code == 0
    assert on_made("models", "replace", old, "last").out == f"{old} is now answered by {made.model}.\n"
    assert on_made("models", "replace", old, "--undo").code == 0
