"""`tunesmith projects …`: the projects of a data directory. No server is needed."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.local_store import find_project, open_local_store
from tunesmith.cli.local_store import note as audit
from tunesmith.cli.options import AsJson, DataDir, named

if TYPE_CHECKING:
    from tunesmith.store import ProjectRow

app = typer.Typer(help="List, create, rename and archive projects.", no_args_is_help=True)

ProjectName = Annotated[
    str, typer.Argument(help="Id or name of a project.", metavar="PROJECT", show_default=False, callback=named)
]
NewName = Annotated[str, typer.Argument(help="What the project is called.", metavar="NAME", show_default=False)]


@app.command("list")
def list_projects(
    archived: Annotated[bool, typer.Option("--archived", help="Include archived projects.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List the projects."""
    from rich.markup import escape

    from tunesmith.cli.output.terminal import ago, listing, print_json, print_table

    with open_local_store(data_dir) as store:
        rows = store.projects.page(limit=10_000, archived=archived).data
    if as_json:
        print_json([_project_json(row) for row in rows])
        return
    table = listing("id", "name", "created", "state")
    for row in rows:
        state = "active" if row.archived_at is None else f"[dim]archived {ago(row.archived_at)}[/dim]"
        table.add_row(row.id, escape(row.name), ago(row.created_at), state)
    print_table(table)


@app.command()
def create(name: NewName, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Create a project and print its id.

    It needs keys of its own: `keys create NAME --project ID`.
    """
    from tunesmith.cli.output.terminal import note, print_json, print_plain

    with open_local_store(data_dir) as store:
        row = store.projects.create(_clean(name))
        audit("project.created", row.id, name=row.name)
    if as_json:
        print_json(_project_json(row))
    else:
        print_plain(row.id)
        note(f"Make a key for it: tunesmith keys create NAME --project {row.id}")


@app.command()
def rename(project: ProjectName, name: NewName, data_dir: DataDir = None) -> None:
    """Rename a project; its id stays the same."""
    from tunesmith.cli.output.terminal import print_plain

    with open_local_store(data_dir) as store:
        row = find_project(store, project)
        store.projects.rename(row.id, _clean(name))
        audit("project.renamed", row.id, name=_clean(name))
    print_plain(f"{row.id} is now called {_clean(name)}.")


@app.command()
def archive(project: ProjectName, data_dir: DataDir = None) -> None:
    """Archive a project: all its keys stop working.

    Its files, jobs and models stay on disk.
    """
    from tunesmith.cli.output.terminal import print_plain

    with open_local_store(data_dir) as store:
        row = find_project(store, project)
        store.projects.archive(row.id)
        audit("project.archived", row.id)
    print_plain(f"{row.id} ({row.name}) is archived.")


def _clean(name: str) -> str:
    if not name.strip():
        raise CommandError("The project's name is empty; name what it is for: tunesmith projects create support")
    return name.strip()


def _project_json(row: "ProjectRow") -> dict[str, object]:
    return {"id": row.id, "name": row.name, "created_at": row.created_at, "archived_at": row.archived_at}
