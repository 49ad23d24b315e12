"""The whole job with the official `openai` package: upload, train, watch, chat.

export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=$(cat ~/.local/share/tunesmith/api-key)
python examples/train_and_chat.py
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from openai import OpenAI

DATASET = Path(__file__).parent / "weather-jokes.jsonl"

ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()  # --help trains nothing
client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY

file = client.files.create(file=DATASET, purpose="fine-tune")
job = client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id, suffix="weather")
print(f"{job.id} trains {job.model}")  # OpenAI's names are aliases of a base here; the job says of which

seen: set[str] = set()
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(1)
    job = client.fine_tuning.jobs.retrieve(job.id)
    page = client.fine_tuning.jobs.list_events(job.id, limit=50)
    for event in reversed(page.data):
        if event.id not in seen:
            seen.add(event.id)
            print(event.message)

if job.fine_tuned_model is None:
    raise SystemExit(f"The job ended as {job.status}: {job.error}")

stream = client.chat.completions.create(
    model=job.fine_tuned_model,
    messages=[
        {"role": "system", "content": "You are a weather assistant who answers every question with a joke."},
        {"role": "user", "content": "How cold is Moscow in January?"},
    ],
    temperature=0,
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
