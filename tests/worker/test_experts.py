"""A mixture of experts is tuned in part: a job says how much of it, before it waits for its turn."""

import shutil
from pathlib import Path

import pytest
from tests.families.zoo import ZOO, write
from tests.worker.conftest import Submit, WaitFor, Workers, finished

from tunesmith.settings import Settings
from tunesmith.store import Store

BASE = "smollm2-135m-instruct"  # what the jobs of these tests name


@pytest.fixture
def mixtral(base_dir: Path, tmp_path: Path) -> Path:
    folder = write(ZOO["mixtral"], tmp_path / "mixtral")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base_dir / name, folder / name)
    return folder


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_a_job_says_what_of_a_mixture_of_experts_is_tuned(
    store: Store,
    store_settings: Settings,
    submit: Submit,
    wait_for: WaitFor,
    mixtral: Path,
    adapter: str,
) -> None:
    job = submit(options={"adapter": adapter})
    workers = Workers(store, store_settings.model_copy(update={"bases": {BASE: str(mixtral)}}))
    workers.start()
    wait_for(job, finished)
    workers.stop()
    said = [(event.level, event.message) for event in store.jobs.events(job.id, limit=100).data]
    found = [pair for pair in said if "experts" in pair[1]]
    expected = (
        "The LoRA reaches 14 % of the weights in this base's layers. 85 % are those of its experts, which stay as they "
        "are: of a mixture of experts, attention and what all tokens go through are tuned."
    )
    assert found == ([("warn", expected)] if adapter == "lora" else [])
    assert any("moving job to queued state" in message for _, message in said)
