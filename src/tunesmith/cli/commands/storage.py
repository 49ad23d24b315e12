"""`tunesmith storage …`: where files' bytes are kept. No server is needed."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.local_store import note as audit
from tunesmith.cli.options import AsJson, DataDir, named

if TYPE_CHECKING:
    from tunesmith.settings import Settings
    from tunesmith.store.storage.bucket import Bucket
    from tunesmith.store.storage.moving import Moved

app = typer.Typer(help="Check the object storage of files, and move files there or back.", no_args_is_help=True)

LOCAL = "local"  # the data directory, in place of a URL
Place = Annotated[str, typer.Argument(help="local (the data directory), or a URL: s3://…", callback=named)]


@app.command()
def check(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Write, read, list and remove an object in the bucket of the setting storage."""
    import time

    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import note, print_json
    from tunesmith.store.storage.bucket import open_bucket

    settings = load_settings(data_dir)
    if settings.storage is None:
        if as_json:
            print_json({"storage": None})
        note(f"Files are kept in {settings.paths.blobs}; the setting storage is not set.")
        return
    began = time.monotonic()
    open_bucket(settings.storage, settings.storage_endpoint).check()
    seconds = time.monotonic() - began
    if as_json:
        print_json({"storage": settings.storage, "seconds": round(seconds, 3)})
    note(f"{settings.storage} takes, gives back, lists and removes an object: {seconds * 1000:.0f} ms in all.")


@app.command()
def move(source: Place, target: Place, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Copy all files and models to another place and verify them; nothing is removed.

    Can be repeated: it goes on where it broke off.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import note, plural, print_json, size

    settings = load_settings(data_dir)
    if source == target:
        raise CommandError(f"Both places are {source}; there is nothing to move.")
    _demand_rest(settings)
    done = _moved(settings, _bucket(source, settings), _bucket(target, settings))
    if as_json:
        counts = {"copied": done.copied, "already_there": done.there, "bytes": done.bytes, "models": done.models}
        print_json({**counts, "missing": done.missing})
    if done.missing:
        shown = ", ".join(done.missing[:5]) + (" …" if len(done.missing) > 5 else "")
        raise CommandError(
            f"Not in {source}: {shown}. The others were copied. Restore what is missing there, or delete these files"
            " and models; then move again."
        )
    audit("storage.moved", target, source=source, files=done.copied + done.there)
    note(
        f"{plural(done.copied, 'file')} copied ({size(done.bytes)}), {done.there} already there, and"
        f" {plural(done.models, 'folder')} of models; all verified."
    )
    change = "unset the setting storage" if target == LOCAL else f"set storage to {target}"
    note(f"Now {change} for every server and worker, and start them.")


def _bucket(place: str, settings: "Settings") -> "Bucket | None":
    from tunesmith.store.storage.bucket import BUCKETS, is_bucket_url, open_bucket

    if place == LOCAL:
        return None
    if not is_bucket_url(place):
        raise CommandError(
            f"{place!r} is not the URL of a bucket, such as {BUCKETS}, and not {LOCAL}, which is the data directory."
        )
    return open_bucket(place, settings.storage_endpoint)


def _demand_rest(settings: "Settings") -> None:
    """Raises CommandError while a server runs: what it takes meanwhile would be missing in the new place."""
    from tunesmith.cli.server.find import running_server

    found = running_server(settings)
    if found is not None:
        raise CommandError(
            f"A server is running on {settings.paths.root} (process {found.pid}): files that it takes meanwhile would"
            " be missing. Stop every server and worker first."
        )


def _moved(settings: "Settings", source: "Bucket | None", target: "Bucket | None") -> "Moved":
    from tunesmith.cli.data_dir import secure_data_dir
    from tunesmith.cli.output.terminal import plural
    from tunesmith.cli.output.waiting import Waiting
    from tunesmith.store import open_store
    from tunesmith.store.storage.moving import Move, Moved
    from tunesmith.system.audit import keep_audit_in

    secure_data_dir(settings)
    store = open_store(settings.model_copy(update={"storage": None}))
    keep_audit_in(settings.paths.root)
    try:
        blobs = store.files.all_blobs()
        way = Move(source, target, settings.paths, settings.storage_cache_gib)
        done = Moved()
        with Waiting(f"moving {plural(len(blobs), 'file')}", lambda: f"{done.copied + done.there} are there"):
            way.run(blobs, store.models.all_folders(), done)
        return done
    finally:
        store.close()
