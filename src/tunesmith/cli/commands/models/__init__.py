"""`tunesmith models …`: the models that can be trained and used."""

import typer

from tunesmith.cli.commands.models import add, alias, catalogue, check, listing, pull, servers, tuned

app = typer.Typer(help="List, add, check, pull, replace and delete models.", no_args_is_help=True)

app.command("list")(listing.list_models)
app.command()(add.add)
app.command()(check.check)
app.command()(pull.pull)
app.command()(catalogue.catalogue)
app.command()(servers.servers)
app.command()(alias.alias)
app.command()(tuned.delete)
app.command()(tuned.replace)
app.command()(tuned.replacements)
