"""One row of a run: asked, answered, graded.

Each step is committed before the next one that costs something.
"""

import structlog

from tunesmith.api.evals.asking import Answered, Asker
from tunesmith.api.evals.saving import Saver
from tunesmith.errors import TunesmithError
from tunesmith.evals.runs.criteria import Criterion
from tunesmith.evals.runs.results import result, state, verdicts
from tunesmith.evals.runs.samples import Asking, given_sample, output_message, variables
from tunesmith.graders.results import Record
from tunesmith.graders.runner import Helpers
from tunesmith.graders.runner import run as grade
from tunesmith.jsonvalue import JsonObject
from tunesmith.store.evals.rows import Invocations, ItemRow, Saved

log = structlog.get_logger(__name__)


class Row:
    """A row under way: what is known of it, and what it has spent since it was saved."""

    def __init__(self, item: ItemRow, asking: Asking, saver: Saver) -> None:
        self._item = item
        self._asking = asking
        self._saver = saver
        self._sample = item.sample
        self._results = list(item.results)
        self._spent: dict[str, Invocations] = {}

    async def answer(self, asker: Asker) -> bool:
        """Has the sample by whatever means there are.

        False: there is none, and the row ends as an error.
        """
        if self._sample is not None:
            return True
        if self._item.given is not None:
            self._sample = given_sample(self._item.given, self._asking)
            return True
        if not self._asking.model:
            self._sample = self._asking.sample([])
            return True
        sample = self._asking.sample([])
        try:
            messages = self._asking.messages(self._item.item)
            sample = self._asking.sample(messages)
            body: JsonObject = {"model": self._asking.model, "messages": messages, **self._asking.sampling}
            self._answered(sample, await asker.answer(body))
        except TunesmithError as fault:
            self._sample = sample
            self.break_off(fault.code or fault.type, fault.message)
        return self._sample is not None and not self._failed

    def break_off(self, code: str, message: str) -> None:
        """Makes the row an error."""
        error: JsonObject = {"code": code, "message": message}
        self._sample = {**(self._sample or self._asking.sample([])), "error": error}

    @property
    def _failed(self) -> bool:
        error = self._sample.get("error") if self._sample else None
        return isinstance(error, dict) and bool(error.get("message"))

    async def keep(self) -> None:
        """Commits what there is, so that it is never asked for again."""
        await self._saver.save(Saved(self._item.id, self._sample, tuple(self._results), spent=self._taken()))

    async def judge(self, criterion: Criterion, helpers: Helpers) -> None:
        """Adds one criterion's result."""
        record = Record()
        try:
            await grade(criterion.grader, variables(self._sample, self._item.item), record, helpers)
        except TunesmithError as fault:  # such as a text that has become too long to be graded
            record.faults["other_error"] = fault.message
        for model, tokens in record.tokens.items():
            self._spend(model, Invocations(record.asked[model], tokens.prompt, tokens.completion, tokens.cached))
        self._results.append(result(criterion, record))

    async def end(self, criteria: int) -> None:
        """Commits the row's end."""
        failed = self._failed
        ended = "error" if failed else state(self._results)
        found = (None,) * criteria if failed else verdicts(self._results)
        saved = Saved(self._item.id, self._sample, tuple(self._results), ended, found, self._taken())
        await self._saver.save(saved)

    @property
    def judged(self) -> int:
        """How many criteria have spoken."""
        return len(self._results)

    def _answered(self, sample: JsonObject, found: Answered) -> None:
        used = found.usage
        self._spend(found.model, Invocations(1, used.prompt_tokens, used.completion_tokens, used.cached_tokens))
        self._sample = {
            **sample,
            "output": [output_message(found.text, found.calls)],
            "finish_reason": found.finish,
            "model": found.model,
            "usage": {
                "total_tokens": used.prompt_tokens + used.completion_tokens,
                "completion_tokens": used.completion_tokens,
                "prompt_tokens": used.prompt_tokens,
                "cached_tokens": used.cached_tokens,
            },
        }

    def _spend(self, model: str, spent: Invocations) -> None:
        self._spent[model] = self._spent.get(model, Invocations()) + spent

    def _taken(self) -> dict[str, Invocations]:
        spent, self._spent = self._spent, {}
        return spent
