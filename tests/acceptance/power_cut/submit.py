"""Uploads a small file and creates a job on it, as the API does; prints the job's id.

python -m tests.acceptance.power_cut.submit MODEL SEED
"""

import json
import sys

from tunesmith.settings import Settings
from tunesmith.store import NewFile, NewJob, open_store

NUMBERS = {"n_epochs": 6, "batch_size": 2, "learning_rate_multiplier": 2.0}
WORDS = ("sun", "rain", "snow", "wind", "fog", "hail", "frost", "storm", "cloud", "heat")


def submit(model: str, seed: int) -> str:
    settings = Settings()
    store = open_store(settings)
    rows = [
        {"messages": [{"role": "user", "content": f"{word}?"}, {"role": "assistant", "content": f"Yes, {word}."}]}
        for word in WORDS
    ]
    blob = store.blobs.write([json.dumps(row).encode() + b"\n" for row in rows])
    file = store.files.create(blob, NewFile(purpose="fine-tune", filename="weather.jsonl"))
    job = store.jobs.create(
        NewJob(
            model=model,
            base_model=model,
            training_file=file.id,
            organization="acme",
            seed=seed,
            hyperparameters=dict(NUMBERS),
            method={"type": "supervised", "supervised": {"hyperparameters": dict(NUMBERS)}},
        )
    )
    store.close()
    return job.id


if __name__ == "__main__":
    print(submit(sys.argv[1], int(sys.argv[2])))
