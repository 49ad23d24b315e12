"""A prompt and an answer under two keys, as Alpaca and many others write."""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.parts import (
    answer_messages,
    plain_text,
    prompt_messages,
    used,
    with_system,
    with_tools,
)
from tunesmith.rows.other_shapes.result import Made, UnclearShapeError
from tunesmith.rows.other_shapes.turns import are_turns, is_turn

# Each name of a prompt with the names of answers it is seen with, the likelier first.
PAIRS = {
    "instruction": ("output", "response", "completion", "answer", "target"),
    "prompt": ("completion", "response", "answer", "output", "target"),
    "input": ("output", "response", "answer", "target", "completion", "ideal", "label_text"),
    "input_text": ("output_text", "target_text"),
    "text_input": ("output", "text_output"),
    "question": ("answer", "response", "output", "completion"),
    "query": ("response", "answer", "output", "completion"),
    "user": ("assistant",),
    "human": ("assistant", "bot", "gpt"),
    "source": ("target",),
    "src": ("tgt",),
    "request": ("response",),
    "inputs": ("targets", "outputs"),
    "problem": ("solution", "answer"),
}
MORE_INPUT = ("input", "inputs", "context")  # what an instruction is about
_LABELS = ("label", "kto_tag")


def recognise_pair(row: JsonObject) -> Made | None:
    """A chat row of a prompt and its answer.

    None for other rows, and for prompt and completion as they are.
    """
    found = pair_keys(row)
    if found is None or is_native_completion(row):
        return None
    prompt_key, answer_key = found
    if any(isinstance(row.get(label), bool) for label in _LABELS):
        raise UnclearShapeError(
            "The row is KTO's: one answer, and a label that says whether it is good. Write the two answers of a prompt "
            "into one row (prompt, chosen, rejected), or keep only the good answers and remove the label."
        )
    prompt, answer = prompt_messages(row[prompt_key]), answer_messages(row[answer_key])
    if prompt is None or answer is None:
        return None
    more, more_key = _more_input(row, prompt_key)
    if more:
        last = prompt[-1]
        if not isinstance(last, dict) or not isinstance(last.get("content"), str):
            return None
        last["content"] = f"{last['content']}\n\n{more}" if last["content"] else more
    prompt = [*_history(row), *(_unlearned(one) for one in prompt)]
    made: JsonObject = {"messages": with_system(row, [*prompt, *answer])}
    keys = used(row, prompt_key, answer_key, more_key, "history" if "history" in row else None)
    return Made(_shape(row, prompt_key, answer_key), with_tools(row, made), keys)


def pair_keys(row: JsonObject) -> tuple[str, str] | None:
    """The keys of a prompt and its answer, if the row has a pair of them."""
    for prompt, answers in PAIRS.items():
        for answer in answers if prompt in row else ():
            if answer in row:
                return prompt, answer
    return None


def is_native_completion(row: JsonObject) -> bool:
    """Whether a row is prompt and completion, perhaps with keys that have no place."""
    if "completion" not in row or "prompt" not in row:
        return False
    others = {"system", "system_prompt", "history", *_LABELS} & row.keys()
    return not others and not any(is_turn(row[key]) or are_turns(row[key]) for key in ("prompt", "completion"))


def _shape(row: JsonObject, prompt_key: str, answer_key: str) -> str:
    names = f"{prompt_key}, {answer_key}"
    if prompt_key == "instruction":
        more = next((key for key in MORE_INPUT if key in row), None)
        return f"Alpaca's ({prompt_key}, {f'{more}, ' if more else ''}{answer_key})"
    if any(are_turns(row[key]) for key in (prompt_key, answer_key)):
        return f"TRL's ({names} as lists of messages)"
    return f"pairs ({names})"


def _more_input(row: JsonObject, prompt_key: str) -> tuple[str, str | None]:
    """The text that an Alpaca row adds to its instruction, and its key."""
    for key in MORE_INPUT if prompt_key == "instruction" else ():
        if key in row:
            text = "" if row[key] is None else plain_text(row[key])
            if text is None:
                raise UnclearShapeError(f"'{key}' is not text: nothing says how it belongs to the instruction.")
            return (text if text.strip() else ""), key
    return "", None


def _history(row: JsonObject) -> list[JsonValue]:
    """Earlier turns as LLaMA-Factory writes them: pairs of a question and an answer."""
    turns: list[JsonValue] = []
    history = row.get("history")
    if history and not isinstance(history, list):
        raise UnclearShapeError("'history' is not a list of pairs of a question and an answer.")
    for pair in history if isinstance(history, list) else []:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise UnclearShapeError("'history' is not a list of pairs of a question and an answer.")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _unlearned(message: JsonValue) -> JsonValue:
    """A message of the prompt, which such rows do not teach: only the completion is learned from them."""
    if isinstance(message, dict) and message.get("role") == "assistant":
        return {**message, "weight": 0}
    return message
