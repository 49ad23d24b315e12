"""What the model said of preference pairs before it was trained, for DPO."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.system.checked_json import read_checked, write_checked
from tunesmith.train.core.disk_room import LITTLE, DiskRoom
from tunesmith.train.core.examples import Example
from tunesmith.train.objective import answer_logprobs
from tunesmith.train.prepare import PreparedModel
from tunesmith.train.ranks.division import share_of_examples
from tunesmith.train.ranks.group import Ranks

Logprobs: TypeAlias = dict[int, tuple[float, float]]  # line -> of its two answers
_REFERENCES = TypeAdapter(Logprobs)


@dataclass(frozen=True, slots=True)
class References:
    """The references of a run, kept below its output directory by rank 0."""

    folder: Path
    fingerprint: str
    room: DiskRoom
    ranks: Ranks

    def of(self, part: str, model: PreparedModel, examples: Sequence[Example]) -> Logprobs:
        """Those of the rows of a `part`, "training" or "validation".

        Computed once, before the first step, while the adapter is as the job found it; afterwards read from disk.
        """
        path = self.folder / f"references-{part}-{self.fingerprint[:16]}.json"
        kept = self.ranks.of_first(read_checked(path) if self.ranks.leads else None)
        if kept is not None:
            with suppress(ValidationError):  # of a damaged file of an earlier release, which had no digest
                return _REFERENCES.validate_python(kept)
        share = share_of_examples(examples, self.ranks)
        mine = answer_logprobs(model.scorer, share, model.micro_batch_tokens, model.enough_tokens)
        known: JsonObject = {}
        for part_known in self.ranks.of_all(_plain(mine)):
            known |= part_known if isinstance(part_known, dict) else {}
        if self.ranks.leads:
            self.room.write("what the untrained model says of the rows", LITTLE, lambda: write_checked(path, known))
        return _REFERENCES.validate_python(known)


def _plain(known: Logprobs) -> JsonValue:
    return {str(line): list(pair) for line, pair in known.items()}
