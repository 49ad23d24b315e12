"""`tunesmith open`: the dashboard in a browser, signed in."""

import webbrowser
from typing import Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import BaseUrl, DataDir


def open_dashboard(
    browser: Annotated[bool, typer.Option(help="Open a browser; without, the link is only printed.")] = True,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Open the dashboard of the running server, signed in.

    The link works once, within five minutes.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import print_plain
    from tunesmith.cli.server.find import connect, running_server

    settings = load_settings(data_dir)
    if base_url is None and running_server(settings) is None:
        raise CommandError(f"No server runs on {settings.paths.root}. Start one: tunesmith serve", Exit.UNREACHABLE)
    with connect(settings, base_url) as connection:
        link = connection.client.sign_in_link()
    if not (browser and webbrowser.open(link)):
        print_plain(link)
