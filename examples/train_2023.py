"""The same job with `openai==0.28.1`, of 2023; only address and key change.

pip install openai==0.28.1
export OPENAI_API_BASE=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=$(cat ~/.local/share/tunesmith/api-key)
python examples/train_2023.py
"""
# mypy: ignore-errors
# (the current `openai` package, which the type checker sees, has none of these names)

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import openai

ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()  # --help trains nothing
with (Path(__file__).parent / "weather-jokes.jsonl").open("rb") as handle:
    file = openai.File.create(file=handle, purpose="fine-tune")
job = openai.FineTuningJob.create(training_file=file.id, model="gpt-3.5-turbo", suffix="weather")

while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(2)
    job = openai.FineTuningJob.retrieve(job.id)
    latest = openai.FineTuningJob.list_events(job.id, limit=1)
    print(job.status, "|", latest.data[0].message)

completion = openai.ChatCompletion.create(
    model=job.fine_tuned_model,
    messages=[
        {"role": "system", "content": "你是一位爱开玩笑的天气播报员。"},
        {"role": "user", "content": "天津的秋天风大吗?"},
    ],
    temperature=0,
)
print(completion.choices[0].message["content"])
