"""The verdict's criteria as graders of an eval.

Whoever runs the eval again is graded in the same way. A row's `reference` is an object with the file's answer: `text`
and `tool_calls`. A row that a criterion has nothing to do with passes it.
"""

from tunesmith.evals.criteria import (
    ANSWERED,
    EXACT,
    REFUSAL,
    ROUGE,
    SAME_CALLS,
    SAME_JSON,
    SHAPE,
    VALID_JSON,
    WORDS,
    Criterion,
)
from tunesmith.jsonvalue import JsonObject

HALF = 0.5  # of a graded criterion: from here on an answer counts as good

_READ = '''\
import json


def read(text):
    """The JSON object or list that a text is; None for any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text, parse_constant=int)  # which raises for NaN: that is not JSON
    except ValueError:
        return None


'''
_TEXT = """\
def grade(sample, item):
    if item["reference"]["tool_calls"]:
        return 1.0
    same = sample["output_text"].split() == item["reference"]["text"].split()
    return float(same and not sample["output_tools"])
"""
_VALID = """\
def grade(sample, item):
    return float(read(item["reference"]["text"]) is None or read(sample["output_text"]) is not None)
"""
_VALUE = """\
def grade(sample, item):
    wanted = read(item["reference"]["text"])
    return float(wanted is None or read(sample["output_text"]) == wanted)
"""
_SHAPE = """\
def shape(value):
    if isinstance(value, dict):
        return tuple(sorted((key, repr(shape(one))) for key, one in value.items()))
    if isinstance(value, list):
        return "list", tuple(sorted({repr(shape(one)) for one in value}))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "number" if number else type(value).__name__


def grade(sample, item):
    wanted, made = read(item["reference"]["text"]), read(sample["output_text"])
    return float(wanted is None or (made is not None and shape(made) == shape(wanted)))
"""
_CALLS = """\
import json
from collections import Counter


def structure(call):
    try:
        return call["name"], json.dumps(json.loads(call["arguments"] or "{}"), sort_keys=True)
    except ValueError:
        return call["name"], call["arguments"]


def grade(sample, item):
    wanted = Counter(map(structure, item["reference"]["tool_calls"]))
    made = Counter(structure(one["function"]) for one in sample["output_tools"])
    return float(not wanted or made == wanted)
"""
_REFUSAL = f"""\
import re

REFUSAL = re.compile({REFUSAL.pattern!r}, re.IGNORECASE)


def grade(sample, item):
    if not item["reference"]["tool_calls"] and REFUSAL.match(item["reference"]["text"]):
        return 1.0
    return float(bool(sample["output_tools"]) or REFUSAL.match(sample["output_text"]) is None)
"""


def _python(source: str) -> JsonObject:
    return {"type": "python", "source": source, "pass_threshold": 1.0}


def _similar(metric: str) -> JsonObject:
    return {
        "type": "text_similarity",
        "evaluation_metric": metric,
        "input": "{{sample.output_text}}",
        "reference": "{{item.reference.text}}",
        "pass_threshold": HALF,
    }


_GRADERS = {
    SAME_CALLS.name: _python(_CALLS),
    SAME_JSON.name: _python(_READ + _VALUE),
    VALID_JSON.name: _python(_READ + _VALID),
    SHAPE.name: _python(_READ + _SHAPE),
    EXACT.name: _python(_TEXT),  # string_check would tell texts apart by their blanks
    WORDS.name: _similar("rouge_1"),  # the F1 of the words in common
    ROUGE.name: _similar("rouge_l"),
    ANSWERED.name: _python(_REFUSAL),
}


def grader(criterion: Criterion) -> JsonObject:
    """The grader that gives a criterion's scores, and from which score on it passes."""
    return {"name": criterion.name, **_GRADERS[criterion.name]}
