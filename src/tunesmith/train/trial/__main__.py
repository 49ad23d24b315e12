"""`python -m tunesmith.train.trial` tries the device of this machine."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tunesmith.errors import TunesmithError

SECONDS = 450.0  # of eight minutes; the rest is for the start of Python and of a first kernel


def main(arguments: Sequence[str]) -> int:
    """Runs the trial; 0 where no line of it failed."""
    options = _parser().parse_args(arguments)

    from tunesmith.train.core.device import Device
    from tunesmith.train.trial.results import table
    from tunesmith.train.trial.run import Trial, machine
    from tunesmith.train.trial.shapes import REAL

    try:
        device = Device.chosen(options.device)
    except TunesmithError as error:
        print(error.message, file=sys.stderr)  # noqa: T201  # a command's
        return 2
    trial = Trial(device, options.seconds, lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    found = trial.run(options.shape or REAL, options.base)
    result = {**machine(device), "found": [one.to_json() for one in found]}
    text = json.dumps(result, ensure_ascii=False)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")
    print(table(found), text, sep="\n\n")  # noqa: T201
    return int(any(one.outcome.startswith("failed") for one in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gpu", description="Tries and measures training on this machine's device.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--shape", action="append", choices=("tiny", "0.6B", "1.7B", "8B"), help="default: all but tiny"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="nothing is begun after these")
    parser.add_argument("--base", type=Path, help="a Hugging Face directory to try too")
    parser.add_argument("--json", type=Path, help="a file for the result")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
