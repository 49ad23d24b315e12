"""llguidance's faults of a schema, in sentences for whoever wrote the schema."""

import re

_REGEX = {  # the beginning of what is wrong with a pattern -> the end of our sentence
    "look-around": "a look-ahead or look-behind that cannot be written out; say which texts may come",
    "lookarounds": "a word boundary (\\b, \\B), or a ^ or $ in its middle; write what may stand there",
    "backreferences": "a reference to a group (\\1); write out which texts may come",
    "unclosed character class": "a '[' that is not closed; a [ itself is written \\[",
    "unclosed group": "a '(' that is not closed; a ( itself is written \\(",
    "unopened group": "a ')' that closes nothing; a ) itself is written \\)",
    "repetition operator missing": "a '*', '+', '?' or '{' with nothing to repeat before it; put a \\ before it",
    "unclosed counted repetition": "a '{' that begins no number of times; a { itself is written \\{",
    "repetition quantifier expects": "a '{' that begins no number of times; a { itself is written \\{",
    "invalid repetition count range": "a {m,n} whose first number is above its second",
    "invalid character class range": "a range in [] whose first character comes after its last",
    "unrecognized flag": "a '(?' that begins nothing known here; a group is written (?:…)",
    "unrecognized escape sequence": "a \\ before a character for which it has no meaning here",
    "incomplete escape sequence": "a \\ at its end",
    "Unicode property not found": "a \\p{…} with a name that Unicode does not have",
}
_WORDS = (
    (r"(?s)regex parse error.*error: (?P<regex>.*)", ""),
    (r"(?P<regex>lookarounds) not supported", ""),
    (r"min/maxProperties only", "'minProperties' and 'maxProperties' need every listed property to be 'required'"),
    (r"recursion limit exceeded", "it is nested too deeply"),
    (r"schema too large", "its 'allOf', 'not' and 'if' come to too many combinations"),
    (
        r"Unsatisfiable schema: required property '(.*)' is",
        "no answer can fit it: '{}' is required and can have no value",
    ),
    (r"Unsatisfiable schema: required item", "no answer can fit it: an item is required and can have no value"),
    (r"Unsatisfiable schema: Regex is empty", "no text fits its 'pattern', 'format' and lengths together"),
    (r"Unsatisfiable schema: (schema is false|anyOf is empty)", "no answer can fit it"),
    (
        r"Unsatisfiable schema: incompatible types",
        "no answer can fit it: the types that it asks for exclude each other",
    ),
    (r"Unsatisfiable schema: (.*)", "no answer can fit it: {}"),
    (
        r"initial lexer configuration",
        "its texts, patterns and lengths come to more than a grammar can hold; simplify it",
    ),
    (r"Unable to determine if regex is empty", "its 'pattern's are too many or too long to be held together"),
    (r"patternProperty regexes .* are not disjoint", "its 'patternProperties' overlap and cannot be told apart"),
    (r"circular references with sibling", "a '$ref' that leads back to itself has other keywords beside it"),
    (r"Schema intersection stack", "its 'allOf' are nested too deeply"),
    (r"Invalid type: (.*)", "'type' is '{}': JSON has string, number, integer, boolean, object, array and null"),
    (r"type must be a string", "'type' must be a text or a list of texts"),
    (r"Expected string for '(\w+)' item", "'{}' must be a list of texts"),
    (r"Expected string for '(\w+)', got", "'{}' must be a text"),
    (r"invalid multiple of", "'multipleOf' must be above 0"),
    (r"Value for 'multipleOf' has too many digits", "'multipleOf' has too many digits"),
    (r"Failed to generate regex for float range", "the numbers of its 'minimum' and 'maximum' have too many digits"),
)


def in_words(fault: str) -> str:
    """llguidance's fault as the end of a sentence."""
    for pattern, words in _WORDS:
        if match := re.match(pattern, fault):
            regex = match.groupdict().get("regex")
            if regex is not None:
                return _of_a_pattern(regex)
            return words.format(*(group.replace('", "', "', '") for group in match.groups()))
    return fault.partition("\n")[0]


def _of_a_pattern(fault: str) -> str:
    known = next((words for begin, words in _REGEX.items() if fault.startswith(begin)), fault.partition("\n")[0])
    return f"this 'pattern' is not supported: it has {known}"
