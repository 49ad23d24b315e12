"""Folders of models, as a trainer leaves them and another machine finds them."""

from pathlib import Path

from tunesmith.store.storage.bucket import PART_BYTES, Bucket
from tunesmith.store.storage.folder_cache import DIGESTS
from tunesmith.store.storage.model_folders import BucketFolders

WEIGHTS = b"w" * (PART_BYTES + 5)


def write(folder: Path, **more: bytes) -> Path:
    """A model's folder, as a trainer leaves it."""
    for name, content in {"adapter_model.safetensors": WEIGHTS, "base/config.json": b"{}", **more}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text("{}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != DIGESTS
    }


def machine(bucket: Bucket, tmp_path: Path, name: str) -> tuple[BucketFolders, Path]:
    """A machine's folders, and there the folder of a model."""
    root = tmp_path / name
    return BucketFolders(root, bucket, 1), root / "jobs" / "x" / "output" / "adapter"
