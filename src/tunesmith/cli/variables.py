"""Environment variables named like settings, but that no setting reads."""

import difflib
import re
from collections.abc import Iterable, Mapping

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.settings import OLD_NAMES, Settings
from tunesmith.system.activity import VARIABLE

PREFIX = "TUNESMITH_"
OF_COMMANDS = ("api_key", "base_url", "debug")
OF_PROCESSES = (VARIABLE.lower().removeprefix(PREFIX.lower()),)  # what a server tells its children
OF_TESTS = ("contract", "fuzz_examples", "report", "test_cluster", "test_ray", "test_templates", "tested", "wheel_test")
# What Kubernetes tells every container about a service that is called `tunesmith`.
OF_KUBERNETES = re.compile(r"service_(host|port)(_.*)?|port_[0-9]+_(tcp|udp|sctp)(_.*)?")


def check_variables(environment: Mapping[str, str]) -> list[str]:
    """Warnings about variables that nothing reads.

    Raises CommandError for one whose name is nearly that of a setting, which is a slip of the pen and not somebody
    else's variable.
    """
    known = (*Settings.model_fields, *OLD_NAMES, *OF_COMMANDS)
    warnings = []
    for variable in sorted(environment):
        name = variable.lower().removeprefix(PREFIX.lower())
        if name == variable.lower() or name in (*known, *OF_PROCESSES, *OF_TESTS) or OF_KUBERNETES.fullmatch(name):
            continue
        if (meant := nearest(name, known)) is not None:
            raise CommandError(
                f"There is no setting {variable}; did you mean {PREFIX}{meant.upper()}? Correct it or unset it."
                " docs/settings.md lists them all.",
                Exit.USAGE,
            )
        warnings.append(f"{variable} is no setting, and changes nothing. docs/settings.md lists them all.")
    return warnings


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is spelled nearly so, if any."""
    return next(iter(difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.7)), None)
