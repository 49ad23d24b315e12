"""What was acknowledged survives kill -9, and a backup taken as `docs/operating.md` says can be used."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from tunesmith.settings import Settings
from tunesmith.store import NewFile, Store, open_store

WRITER = """
import json, sys
from tunesmith.settings import Settings
from tunesmith.store import NewFile, NewJob, open_store
store = open_store(Settings(**json.loads(sys.argv[1])))
while True:
    file = store.files.create(store.blobs.write([b"x" * 100_000]), NewFile(purpose="fine-tune", filename="a"))
    job = store.jobs.create(NewJob("b", "b", file.id, "acme", 1, {}, {"type": "supervised"}, metadata={"k": "v"}))
    print(file.id, job.id, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(store: Store, store_settings: Settings) -> None:
    command = [sys.executable, "-c", WRITER, store_settings.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().split() for _ in range(10)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [line.split() for line in writer.stdout if line.endswith("\n")]
    again = open_store(store_settings)
    for file_id, job_id in acknowledged:
        row = again.files.get(file_id)
        assert row is not None
        assert again.blobs.path(file_id).stat().st_size == row.bytes == 100_000
        assert again.jobs.get(job_id) is not None
        assert len(again.jobs.events(job_id).data) == 1
    again.close()


def test_a_backup_of_a_database_in_use_opens_elsewhere(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    store = open_store(settings)
    row = store.files.create(store.blobs.write([b"{}"]), NewFile(purpose="fine-tune", filename="a"))
    copy = tmp_path / "backup"
    copy.mkdir()
    with store.database.write(), sqlite3.connect(settings.paths.database) as source:  # even beside an open write
        target = sqlite3.connect(copy / "tunesmith.db")
        source.backup(target)
        target.close()
    source.close()
    shutil.copytree(settings.paths.blobs, copy / "files")
    store.close()
    restored = open_store(Settings(data_dir=copy))
    assert restored.files.get(row.id) == row
    assert restored.blobs.path(row.id).read_bytes() == b"{}"
    restored.close()
