"""A stand-in for the evaluating process at its process seam: same lines, same files, no model.

What to do comes from the environment as JSON: `verdict`, `forgetting` (what was found), `fail` (a message), `kill_at`
(SIGKILL itself, once, after so many answers), `seconds` (an answer), `answers` (how many; 4).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

SCRIPT = json.loads(os.environ.get("SCRIPTED_EVALUATOR", "{}"))


def emit(kind: str, **values: object) -> None:
    print(json.dumps({"type": kind, **values}), flush=True)


def answer(side: str, text: str) -> dict[str, object]:
    """As the evaluating process writes it."""
    taken = {"prompt_tokens": 9, "completion_tokens": 2, "seconds": 0.1, "cut": text == "no"}
    return {"text": text, "tool_calls": [], "model": side, "fingerprint": "fp_1", **taken}


def samples(before: str, after: str) -> list[dict[str, object]]:
    """Four rows: the base has one right, the tuned model all."""
    return [
        {
            "line": line,
            "messages": [{"role": "user", "content": f"{line}?"}],
            "reference": {"text": "yes", "tool_calls": []},
            "before": answer(before, "yes" if line == 1 else "no"),
            "after": answer(after, "yes"),
        }
        for line in range(1, 5)
    ]


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text())
    emit("log", level="info", message="Evaluating on 4 rows")
    if "fail" in SCRIPT:
        emit("failed", code="x", message=SCRIPT["fail"])
        return 1
    journal = Path(spec["journal"])
    for answer in range(len(journal.read_text().splitlines()) if journal.exists() else 0, SCRIPT.get("answers", 4)):
        if answer == SCRIPT.get("kill_at") and not journal.with_suffix(".killed").exists():
            journal.with_suffix(".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(SCRIPT.get("seconds", 0))
        with journal.open("a") as file:
            file.write(f"{answer} of process {os.getpid()}\n")
    forgotten = SCRIPT.get("forgetting", False)
    before, after = spec["before"]["name"], spec["after"]["name"]
    found = {
        "before": before,
        "after": after,
        "criteria": [{"name": "same text"}, {"name": "ROUGE-L"}],
        "max_completion_tokens": 64,
        "rows": 4,
        "verdict": SCRIPT.get("verdict", "better"),
        "sentences": ["same text 0 % -> 100 % on 4 rows: better", "general questions 41 % -> 12 % on 60 rows"],
        "notes": ["4 of 9 rows"],
        "leaks": {"exact": 1, "near": 1},
        "forgetting": {"found": forgotten},
        "samples": samples(before, after),
        "journal": journal.read_text().splitlines(),
    }
    Path(spec["result"]).write_text(json.dumps(found))
    return 0


sys.exit(main())
