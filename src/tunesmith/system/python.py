"""How a process of ours starts another one, with the same Python."""

import re
import sys
from collections.abc import Mapping

SECRET_NAMES = re.compile(
    r"(KEY|KEY_ID|TOKEN|TOKEN_FILE|SECRET|PASSWORD|PASSWD|PASSFILE|CREDENTIALS|CONNECTION_STRING|DATABASE_URL)$"
    r"|^(AWS|AZURE|GOOGLE|GCLOUD|IDENTITY|MSI)_",  # all that an object storage's client reads, files' names among them
    re.IGNORECASE,
)


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` with `arguments`.

    With `-P`: plain `-m` looks for modules in the working directory first, so a `numpy.py` beside a downloaded data set
    would be run. What is not covered: a PYTHONPATH that names the working directory, which is its owner's wish.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without keys, passwords and cloud accounts, by their names.

    For processes that read bases and rows, which come from elsewhere, and call nobody.
    """
    return {name: value for name, value in environment.items() if not SECRET_NAMES.search(name)}
