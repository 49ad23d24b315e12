"""Saves your fine-tuning data at OpenAI to a folder for `tunesmith import openai`.

export OPENAI_API_KEY=sk-...        # OpenAI's own key; unset OPENAI_BASE_URL
python examples/export_openai.py openai-export

Safe to repeat: files that are saved already are not fetched again. OpenAI does not hand out the weights of models.
"""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable
from pathlib import Path

from openai import NotFoundError, OpenAI
from openai.types.fine_tuning import FineTuningJob


def save(path: Path, objects: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(objects), ensure_ascii=False, indent=1), encoding="utf-8")


def save_file(client: OpenAI, folder: Path, file_id: str) -> dict[str, object] | None:
    """Saves the file's bytes and returns its object; None if it was deleted at OpenAI."""
    content = folder / "files" / file_id
    try:
        file = client.files.retrieve(file_id).to_dict(mode="json")
        if not content.exists():
            content.parent.mkdir(parents=True, exist_ok=True)
            content.write_bytes(client.files.content(file_id).read())
    except NotFoundError:
        print(f"{file_id}: deleted, or not yours; left out")
        return None
    return file


def file_ids(jobs: Iterable[FineTuningJob]) -> list[str]:
    """The ids of all files of the jobs, newest first, each once."""
    ids: dict[str, None] = {}
    for job in jobs:
        ids |= dict.fromkeys([*job.result_files, job.validation_file or job.training_file, job.training_file])
    return list(ids)


def main(folder: Path) -> None:
    client = OpenAI()
    jobs = list(client.fine_tuning.jobs.list(limit=100))  # fetches further pages by itself
    for job in jobs:
        events = client.fine_tuning.jobs.list_events(job.id, limit=100)
        save(folder / "events" / f"{job.id}.json", (event.to_dict(mode="json") for event in events))
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id, limit=100)
        save(folder / "checkpoints" / f"{job.id}.json", (point.to_dict(mode="json") for point in checkpoints))
        print(f"{job.id}: {job.status}, {job.fine_tuned_model or 'no model'}")
    files = [file for file_id in file_ids(jobs) if (file := save_file(client, folder, file_id)) is not None]
    save(folder / "files.json", files)
    save(folder / "jobs.json", (job.to_dict(mode="json") for job in jobs))  # last: the folder is complete
    print(f"{len(jobs)} jobs and {len(files)} files in {folder}. Now: tunesmith import openai {folder}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("openai-export"))
    main(parser.parse_args().folder)
