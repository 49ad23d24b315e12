"""The store as one object.

`open_store(settings)` brings the schema up to date and removes what a crash left behind.
"""

from dataclasses import dataclass

from sqlalchemy import select

from tunesmith.data_paths import Paths
from tunesmith.settings import Settings
from tunesmith.store.accounts.keys import KeyStore
from tunesmith.store.accounts.projects import ProjectStore
from tunesmith.store.accounts.sessions import SessionStore
from tunesmith.store.accounts.usage import UsageStore
from tunesmith.store.evals.evals import EvalStore
from tunesmith.store.evals.leases import RunQueue
from tunesmith.store.evals.runs import RunStore
from tunesmith.store.objects.aliases import AliasStore
from tunesmith.store.objects.blobs import BlobStore
from tunesmith.store.objects.chats import ChatStore
from tunesmith.store.objects.checkpoint_permissions import PermissionStore
from tunesmith.store.objects.files import FileStore
from tunesmith.store.objects.idempotency import delete_old_requests
from tunesmith.store.objects.imports import ImportStore
from tunesmith.store.objects.models import ModelStore
from tunesmith.store.objects.parts import PartStore
from tunesmith.store.objects.uploads import UploadStore
from tunesmith.store.queue.jobs import JobStore
from tunesmith.store.queue.leases import Queue
from tunesmith.store.queue.progress import ProgressStore
from tunesmith.store.schema.db import Database, database_url
from tunesmith.store.schema.migrate import migrate
from tunesmith.store.schema.presence import require_own_database
from tunesmith.store.schema.tables import files
from tunesmith.store.scope import EVERYBODY, Scope
from tunesmith.store.servers.leases import WorkLeases
from tunesmith.store.servers.limits import SharedLimits
from tunesmith.store.storage.bucket import open_bucket
from tunesmith.store.storage.bucket_parts import BucketParts
from tunesmith.store.storage.cached_blobs import CachedBlobStore
from tunesmith.store.storage.model_folders import BucketFolders, ModelFolders
from tunesmith.system.atomic_write import make_directories, remove_abandoned
from tunesmith.system.disk import require_writable


@dataclass(frozen=True, slots=True)
class ScopedStore:
    """The store as the requests of one project see it.

    Objects of other projects do not exist in it. Only `Store.of` makes one. Aliases, keys, projects and usage belong
    to the whole organisation: `api.middleware.roles` says who may use them.
    """

    project: str
    blobs: BlobStore
    files: FileStore
    uploads: UploadStore
    jobs: JobStore
    progress: ProgressStore
    models: ModelStore
    aliases: AliasStore
    permissions: PermissionStore
    chats: ChatStore
    evals: EvalStore
    runs: RunStore
    projects: ProjectStore
    keys: KeyStore
    usage: UsageStore


@dataclass(frozen=True, slots=True)
class Store:
    """The whole store, as workers and sweeps need it; threads may share it.

    `jobs` is the API's side of a job, `queue` the worker's, `progress` the pages'; `runs` and `run_queue` are the first
    two of an eval's run.
    """

    blobs: BlobStore
    files: FileStore
    uploads: UploadStore
    jobs: JobStore
    progress: ProgressStore
    queue: Queue
    models: ModelStore
    aliases: AliasStore
    permissions: PermissionStore
    chats: ChatStore
    evals: EvalStore
    runs: RunStore
    projects: ProjectStore
    keys: KeyStore
    usage: UsageStore
    imports: ImportStore
    run_queue: RunQueue
    sessions: SessionStore
    limits: SharedLimits | None  # None: there is one server, which keeps them in memory
    leases: WorkLeases
    database: Database

    def of(self, project: str) -> ScopedStore:
        """The store as a request of this project may see it."""
        scope = Scope(project)
        return ScopedStore(
            project,
            blobs=self.blobs,
            files=self.files.within(scope),
            uploads=self.uploads.within(scope),
            jobs=self.jobs.within(scope),
            progress=self.progress.within(scope),
            models=self.models.within(scope),
            aliases=self.aliases,
            permissions=self.permissions.within(scope),
            chats=self.chats.within(scope),
            evals=self.evals.within(scope),
            runs=self.runs.within(scope),
            projects=self.projects,
            keys=self.keys,
            usage=self.usage,
        )

    def expire(self) -> int:
        """Remove whatever has expired and return how many objects that was.

        A running server calls this from time to time.
        """
        gone = self.files.expire() + self.files.tidy() + self.models.tidy()
        gone += self.uploads.sweep() + delete_old_requests(self.database)
        return gone + self.sessions.expire() + (self.limits.expire() if self.limits else 0)

    def close(self) -> None:
        """Close all connections, and leave what was not finished to the next sweep."""
        self.blobs.close()
        self.database.close()


def open_store(settings: Settings) -> Store:
    """Create the data directory, migrate the schema and sweep.

    Any number of processes may do this at the same time. Raises OSError when the directory cannot be written,
    ServerFault when a newer version wrote the database, or when the directory has the files of an installation whose
    database is not there, InvalidRequest for a bucket that is not this installation's, and StorageUnavailable.
    """
    paths = settings.paths
    make_directories(paths.root, mode=0o700)
    require_writable(paths.root)  # SQLite would only say that it cannot open a file
    make_directories(paths.jobs)
    remove_abandoned(paths.root, paths.serve, paths.checks)
    database = Database(database_url(settings))
    try:
        require_own_database(database, paths)
        migrate(database)
    except BaseException:
        database.close()
        raise
    try:
        store = _assemble(database, _bytes(database, settings), paths)
    except BaseException:
        database.close()
        raise
    store.files.sweep()
    store.uploads.sweep()
    return store


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Where bytes are kept: in the data directory alone, or in the bucket of the setting `storage` too."""

    blobs: BlobStore
    parts: PartStore
    folders: ModelFolders


def _bytes(database: Database, settings: Settings) -> _Bytes:
    directory = settings.paths.blobs
    if settings.storage is None:
        return _Bytes(BlobStore(directory), PartStore(directory), ModelFolders())
    bucket = open_bucket(settings.storage, settings.storage_endpoint)
    blobs = CachedBlobStore(directory, bucket, settings.storage_cache_gib)
    with database.read() as connection:
        has_files = connection.execute(select(files.c.seq).where(files.c.deleted_at.is_(None)).limit(1)).first()
    blobs.require(has_files=has_files is not None)
    folders = BucketFolders(settings.paths.root, bucket, settings.storage_cache_gib)
    return _Bytes(blobs, BucketParts(directory, bucket), folders)


def _assemble(database: Database, kept: _Bytes, paths: Paths) -> Store:
    blobs = kept.blobs
    return Store(
        blobs=blobs,
        files=FileStore(database, blobs, EVERYBODY),
        uploads=UploadStore(database, blobs, kept.parts, EVERYBODY),
        jobs=JobStore(database, EVERYBODY),
        progress=ProgressStore(database, EVERYBODY),
        queue=Queue(database, blobs, paths.root),
        aliases=AliasStore(database),
        models=ModelStore(database, paths.root, paths.jobs, EVERYBODY, kept.folders),
        permissions=PermissionStore(database, EVERYBODY),
        chats=ChatStore(database, EVERYBODY),
        evals=EvalStore(database, EVERYBODY),
        runs=RunStore(database, EVERYBODY),
        projects=ProjectStore(database),
        keys=KeyStore(database),
        usage=UsageStore(database),
        imports=ImportStore(database, blobs),
        run_queue=RunQueue(database),
        sessions=SessionStore(database),
        limits=None if database.is_sqlite else SharedLimits(database),
        leases=WorkLeases(database),
        database=database,
    )
