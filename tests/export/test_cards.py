"""Cards and records: what they say, and that they are read as they were written."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.export.cards import base_facts
from tunesmith.export.cards.base_facts import base_digest, base_licence
from tunesmith.export.cards.machine import Machine, versions
from tunesmith.export.cards.model_card import model_card, read_verdict, sparkline, write_card
from tunesmith.export.cards.training_record import (
    BaseRecord,
    DataRecord,
    TrainingRecord,
    read_record,
    thinned,
    write_record,
)
from tunesmith.settings import TrainingOptions
from tunesmith.system.atomic_write import sha256_of

RECORD = TrainingRecord(
    model="ft:tiny:acme:a|b:x",
    job="ftjob-1",
    created_at=1_700_000_000,
    step=4,
    sha256="a" * 64,
    base=BaseRecord("tiny", "f" * 16, "b" * 64, "apache-2.0"),
    started_from=None,
    training=DataRecord(
        "rows.jsonl", "c" * 64, 12345, 20, {"rows": 20, "tokens": 1500, "roles": {"user": 20, "assistant": 20}}
    ),
    validation=None,
    spec={"method": "supervised", "seed": 7, "beta": None, "options": TrainingOptions().model_dump(mode="json")},
    trained_tokens=3000,
    curves={"train_loss": [(1, 4.0), (2, 2.0), (3, 1.0), (4, 0.5)]},
    versions={"torch": "2.13.0"},
    machine=Machine("Linux x86_64", "A <CPU>", ("avx2",), 2),
)


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    old = replace(RECORD, machine=None, versions=None)
    write_record(tmp_path, old)
    assert read_record(tmp_path) == old
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(InvalidRequest, match=r"card.json of this model is damaged .* Remove it"):
        read_record(tmp_path)


def test_card_says_data_base_licence_options_curves_and_machine() -> None:
    text = model_card(RECORD)
    assert text.startswith("# ft:tiny:acme:a\\|b:x\n")
    for line in (
        "| made | 2023-11-14 22:13 UTC, by job ftjob-1, at step 4 |",
        "| licence of the base | apache-2.0 |",
        f"| training: SHA-256 | `{'c' * 64}` |",
        "| training: tokens | 1,500 |",
        "| training: roles | user 20, assistant 20 |",
        "| `seed` | 7 |",
        "| `lora_rank` | 16 |",
        "| `trained_tokens` | 3,000 |",
        "loss, step 1 to 4: 4 to 0.5",
        "    █▄▂▁",
        "| machine | Linux x86_64, A &lt;CPU> (avx2), 2 threads |",
        "| versions | torch 2.13.0 |",
    ):
        assert line in text.splitlines()
    assert "beta" not in text
    assert "Did the tuning help?" not in text
    assert "not known: made before cards were kept" in model_card(replace(RECORD, machine=None))


def test_verdict_beside_the_model_is_in_the_card(tmp_path: Path) -> None:
    adapter = tmp_path / "job" / "output" / "adapter"
    adapter.mkdir(parents=True)
    assert read_verdict(adapter) is None
    found: dict[str, object] = {"verdict": "better", "rows": 40, "sentences": ["valid JSON 61 % -> 98 %"]}
    (adapter / "evaluation.json").write_text(json.dumps(found))
    lines = write_card(adapter, RECORD).splitlines()
    assert (adapter / "card.md").read_text("utf-8").splitlines() == lines
    place = lines.index("## Did the tuning help?")
    assert lines[place + 2 : place + 5] == ["better, on 40 rows.", "", "- valid JSON 61 % -> 98 %"]
    assert lines[place + 6] == "## Data"
    counts = {"both": 3, "gained": 20, "lost": 1, "neither": 16}
    found["notes"] = ["40 of 52 rows"]
    found["criteria"] = [{"name": "valid JSON", "p": 2e-5, "table": counts}, {"name": "ROUGE-L", "p": 0.5}]
    (adapter / "evaluation.json").write_text(json.dumps(found))
    lines = write_card(adapter, RECORD).splitlines()
    assert lines[place + 2] == "better, on 40 rows; 40 of 52 rows."
    assert lines[place + 6 : place + 10] == [
        "| criterion | both right | gained | lost | both wrong | p |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| valid JSON | 3 | 20 | 1 | 16 | &lt;0.001 |",
        "",
    ]
    (adapter / "evaluation.json").write_text("{")
    assert read_verdict(adapter) is None


def test_sparkline_spans_from_the_least_to_the_most() -> None:
    assert sparkline([]) == ""
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([0.0, 7.0, 3.0]) == "▁█▄"
    assert sparkline([float(place // 10) for place in range(480)])[::12] == "▁▃▅▆"


def test_long_curves_are_thinned_with_both_ends() -> None:
    points = [(step, float(step)) for step in range(1, 1001)]
    assert [step for step, _ in thinned(points, 5)] == [1, 250, 500, 750, 1000]
    assert len(thinned(points)) == 400
    assert thinned(points[:3]) == points[:3]


def test_digest_and_licence_of_a_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1234")
    first = base_digest(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    assert base_digest(tmp_path) != first
    assert base_licence(tmp_path) is None
    (tmp_path / "LICENSE").write_text("\n  MIT License\n\nCopyright")
    assert base_licence(tmp_path) == "MIT License"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: 'apache-2.0'\n---\n")
    assert base_licence(tmp_path) == "apache-2.0"


def test_the_digest_of_a_base_is_kept_until_a_file_looks_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, kept = tmp_path / "base", tmp_path / "cache"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"1234")
    hashed: list[str] = []

    def count(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(base_facts, "sha256_of", count)
    digests = []
    for _ in range(3):  # as three processes
        base_facts._digests.clear()
        digests.append(base_digest(base, kept))
    assert digests == [digests[0]] * 3
    assert hashed == ["config.json", "model.safetensors"]
    base_facts._digests.clear()
    assert base_digest(base) == digests[0]  # read anew, as without a cache
    stat = (base / "model.safetensors").stat()
    (base / "other").write_bytes(b"4321")
    os.utime(base / "other", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (base / "other").replace(base / "model.safetensors")  # of the same size and time
    assert base_digest(base, kept) != digests[0]


def test_this_machine_is_described() -> None:
    machine = Machine.this(3)
    assert machine.threads == 3
    assert machine.processor
    assert versions()["torch"].startswith("2.")
