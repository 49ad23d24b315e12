"""`tunesmith migrate`: the database's schema. No server is needed."""

from tunesmith.cli.options import DataDir


def migrate(data_dir: DataDir = None) -> None:
    """Update the database to this version's schema.

    `serve` and `worker` do the same when they start.
    """
    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import print_plain

    with open_local_store(data_dir):
        print_plain("The database has this version's schema.")
