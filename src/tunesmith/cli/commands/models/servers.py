"""`tunesmith models servers`: are the vLLM servers as they have to be?"""

from tunesmith.cli.options import AsJson, DataDir


def servers(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Ask the vLLM servers of the setting serve_remote whether all is well.

    Each is asked for its base, for the routes that load adapters, and for a token by a grammar. The exit code is 1 if
    one of them lacks something.
    """
    from rich.markup import escape

    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.exits import CommandError
    from tunesmith.cli.output.terminal import listing, note, print_json, print_table
    from tunesmith.serve.vllm.inspection import inspect_servers
    from tunesmith.serve.vllm.loading import check_remotes

    settings = load_settings(data_dir)
    check_remotes(settings)
    found = list(inspect_servers(settings))
    if as_json:
        print_json([one.to_json() for one in found])
    elif not found:
        note("No base is served by vLLM: the setting serve_remote is empty.")
    else:
        table = listing("base", "server", "vLLM", "context", "adapters", "state", right=("context", "adapters"))
        for one in found:
            facts = (one.base, one.url, one.version or "-", f"{one.context_length or '-'}", f"{one.adapters}")
            table.add_row(*map(escape, facts), escape("; ".join(one.faults) or "well"))
        print_table(table)
    unwell = sum(bool(one.faults) for one in found)
    if unwell:
        raise CommandError(f"{unwell} of {len(found)} servers need attention.")
