"""Chat templates that would never end or take all memory, by what they do.

`python -m tests.security.bases.hostile_templates` runs each within 300 MB and prints a line of JSON for it.
"""

import json
import resource
import time
from pathlib import Path

from tunesmith.errors import DataError
from tunesmith.render.chat_template import ANSWER, ChatTemplate, Form

ROOM = 300 * 1024 * 1024
_DOUBLE = "{% set ns = namespace(v=START) %}{% for i in range(40) %}{% set ns.v = OP %}{% endfor %}"
_NEST = "{% set a = [1] %}" + "{% set a = [a, a] %}" * 30
_LOOPS = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}BODY{% endfor %}" + (
    "{% endfor %}{% endfor %}"
)


def _double(start: str, operation: str) -> str:
    return _DOUBLE.replace("START", start).replace("OP", operation)


HOSTILE = {
    "range": "{% for i in range(10**9) %}a{% endfor %}",
    "nested loops": _LOOPS,
    "nested loops that write": _LOOPS.replace("BODY", "{{ a }}"),
    "a loop whose test is never true": "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}{% endfor %}"
    "{% endfor %}",
    "a filter in a loop": "{% for a in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
    "lazy filters in a loop": "{% for a in range(99999) %}{{ range(99999)|map('string')|select|list|length }}"
    "{% endfor %}",
    "times": "{{ 'a' * 10**9 }}",
    "times from the left": "{{ 10**9 * 'a' }}",
    "a list times": "{{ ([1] * 10**9)|length }}",
    "a tuple times": "{{ ((1, 2) * 10**9)|length }}",
    "a power": "{{ 9**(9**9) }}",
    "squares": _double("3", "ns.v * ns.v"),
    "percent": "{{ '%1000000000d' % 1 }}",
    "a precision": "{{ '%.1000000000f' % 1 }}",
    "a starred width": "{{ '%*d' % (10**9, 1) }}",
    "a field often": "{{ ('%s' * 9999) % ((('a' * 99999),) * 9999) }}",
    "the filter format": "{{ '%1000000000d'|format(1) }}",
    "the method format": "{{ '{:1000000000}'.format(1) }}",
    "a computed width": "{{ '{:{w}}'.format(1, w='1000000000') }}",
    "a format of a stored method": "{% set f = '{:1000000000}'.format %}{{ f(1) }}",
    "format through attr": "{{ ('{:1000000000}'|attr('format'))(1) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "join": "{{ range(99999)|join('a' * 99999) }}",
    "the method join": "{{ ('a' * 99999).join(['b'] * 99999) }}",
    "join of a lazy list": "{% set s = 'a' * 999999 %}{{ range(99999)|map('replace', '', s)|join }}",
    "replace": "{{ ('a' * 99999)|replace('a', 'b' * 99999) }}",
    "the method replace": "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "indent": "{{ ('a\n' * 9999)|indent(10**9) }}",
    "indent by a text": "{{ ('a\n' * 9999)|indent('b' * 99999) }}",
    "center": "{{ 'a'|center(10**9) }}",
    "a constant center": "{{ 'a'|center(1000000000) }}",
    "the method center": "{{ 'a'.center(10**9) }}",
    "ljust and zfill": "{{ 'a'.ljust(10**9) ~ 'a'.zfill(10**9) }}",
    "expandtabs": "{{ '\t'.expandtabs(10**9) }}",
    "batch": "{{ [1]|batch(10**9, 'a')|list }}",
    "slice": "{{ [1]|slice(10**9)|list }}",
    "tojson's indent": "{{ [[1]]|tojson(indent=10**9) }}",
    "tojson's separators": "{{ range(999)|list|tojson(separators=('a' * 99999, 'b')) }}",
    "tojson of a tower": _NEST + "{{ a|tojson }}",
    "a tower": _NEST + "{{ a }}",
    "towers compared": _NEST + _NEST.replace("a", "b").replace("bnd", "and") + "{{ a == b }}",
    "a tower as a key": _NEST.replace("[", "(").replace("]", ")").replace("(1)", "(1,)") + "{{ {a: 1} }}",
    "a tower of arguments": "{% macro m(n) %}{% if n %}{{ m(n - 1, varargs, varargs) }}"
    "{% else %}{{ varargs == [varargs] }}{{ varargs }}{% endif %}{% endmacro %}{{ m(40, 1, 1) }}",
    "a tower of cyclers": "{% set ns = namespace(v=[1]) %}{% for i in range(40) %}"
    "{% set ns.v = cycler(ns.v, ns.v).items %}{% endfor %}{{ ns.v }}",
    "a tower of namespaces": "{% set a = namespace() %}"
    + "{% set b = namespace(x=a, y=a) %}{% set a = namespace(x=b, y=b) %}" * 20
    + "{{ a }}",
    "a tower linked from its top": "{% set n = namespace(l=[]) %}{% for i in range(40) %}"
    "{% set n.l = n.l + [namespace()] %}{% endfor %}{{ n }}",
    "a namespace in itself": "{% set n = namespace() %}{% set n.n = [n, n] %}{{ n }}",
    "namespace growth": _double("'a'", "ns.v ~ ns.v"),
    "namespace growth by +": _double("'a'", "ns.v + ns.v"),
    "namespace growth by lists": _double("[1]", "ns.v + ns.v"),
    "namespace growth by format": _double("'a'", "'%s%s' % (ns.v, ns.v)"),
    "namespace growth by numbers": _double("2", "ns.v ** 99"),
    "texts in a list": "{% set n = namespace(l=[]) %}{% for i in range(99999) %}"
    "{% set n.l = n.l + ['a' * 99999 ~ i] %}{% endfor %}",
    "texts in variables": "".join(f"{{% set a{n} = 'a' * 999999 ~ {n} %}}" for n in range(999)),
    "slices in variables": "{% set s = 'a' * 999999 %}" + "".join(f"{{% set a{n} = s[{n}:] %}}" for n in range(1, 999)),
    "a block set": "{% set n = namespace(v='a') %}{% for i in range(40) %}{% set v %}{{ n.v }}{{ n.v }}{% endset %}"
    "{% set n.v = v %}{% endfor %}",
    "a block set in a loop": "{% set s = 'a' * 999999 %}{% set v %}{% for i in range(99999) %}{{ s }}{% endfor %}"
    "{% endset %}",
    "append": "{% set l = [] %}{% for i in range(99999) %}{% set _ = l.append('a' * 99999) %}{% endfor %}",
    "macros that call themselves twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}"
    "{% endmacro %}{{ m(60) }}",
    "a macro without an end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a recursive loop": "{% set l = range(99) %}{% for x in l recursive %}{{ loop(l) }}{% endfor %}",
    "a recursive loop over an iterator": "{% set l = range(9) %}{% for x in l recursive %}"
    "{{ loop(l|map('string')) if loop.depth < 40 }}{% endfor %}",
    "a block in itself": "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}",
    "call blocks": "{% macro m(n) %}{% if n %}{% call m(n - 1) %}a{% endcall %}{% call m(n - 1) %}a{% endcall %}"
    "{% endif %}{{ caller() }}{% endmacro %}{% call m(60) %}b{% endcall %}",
    "pprint": "{{ ('a b' * 99999)|pprint }}",
    "wordwrap": "{{ ('a' * 999999)|wordwrap(1) }}",
    "wordwrap by a text": "{{ ('a ' * 9999)|wordwrap(1, true, 'b' * 99999) }}",
    "truncate": "{% for i in range(99999) %}{{ ('a' * 999999)|truncate(999998, true) }}{% endfor %}",
    "urlize": "{{ ('http://a' * 99999)|urlize }}",
    "striptags": "{{ ('<!--' * 99999)|striptags }}",
    "lipsum": "{{ lipsum(n=10**9) }}",
    "cycler": "{% set c = cycler('a') %}{% for a in range(99999) %}{% for b in range(99999) %}{{ c.next() }}"
    "{% endfor %}{% endfor %}",
    "round": "{{ 1.5|round(10**9, 'floor') }}",
    "sum of lists": "{{ ([[1]] * 99999)|sum(start=[]) }}",
    "a search from the right": "{{ ('a' * 999999).rfind('b' ~ 'a' * 499999) }}",
    "a strip of many characters": "{{ ('ab' * 499999).strip('a' * 499999 ~ 'b') }}",
    "a trim of many characters": "{{ ('ab' * 499999)|trim('a' * 499999 ~ 'b') }}",
    "a message often": "{% for m in messages %}{% for i in range(9999) %}{{ m.content }}{% endfor %}{% endfor %}",
    "a message that nobody wrote": "{% for m in messages %}{{ m.content ~ m.content|replace('0.0', '77.0') }}"
    "{% endfor %}",
    "a message of a long number": "{% for m in messages %}{{ m.content|replace('.', '1' * 9999 ~ '.') }}{% endfor %}",
    "a search often": "{% set s = 'a' * 999999 %}{% for i in range(99999) %}{{ 'b' in s }}{% endfor %}",
    "comparisons in a row": "{% set s = 'a' * 999999 %}{% set t = 'a' * 999999 %}" + "{{ s == t }}" * 1000,
    "a long number": "{{ ('f' * 999999)|int(base=16) }}",
    "an encoding": "{{ ('\u00e4' * 999999).encode('punycode') }}",
    "bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "translate": "{{ ('a' * 999999).translate({97: 'b' * 99999}) }}",
    "filters on filters": "{% set n = namespace(g=[1]) %}{% for i in range(99999) %}{% set n.g = n.g|map('string') %}"
    "{% endfor %}{{ n.g|list }}",
    "lists in lists": "{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = [n.l] %}{% endfor %}"
    "{{ n.l }}",
    "a sort in a loop": "{% set l = range(99999)|list %}{% for i in l %}{% set x = l|sort(reverse=true) %}{% endfor %}",
    "a length of a lazy list": "{% for i in range(99999) %}{% for x in range(99999)|map('string') %}"
    "{{ loop.length }}{% endfor %}{% endfor %}",
    "ever new times": "{% for i in range(99999) %}{{ strftime_now('%Y' ~ i) }}{% endfor %}",
    "a long time": "{{ strftime_now('%Y' * 99999) }}",
    "a long refusal": "{{ raise_exception('a' * 999999) }}",
    "brackets": "{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}",
    "ifs in ifs": "{% if 1 %}" * 400 + "a" + "{% endif %}" * 400,
    "loops in loops": "{% for x in range(99) %}" * 60 + "a" + "{% endfor %}" * 60,
    "a chain of filters": "{{ 'a'" + "|replace('a', 'aa')" * 5000 + " }}",
    "digits": "{{ " + "9" * 99999 + " }}",
    "a long template": "{{ 1 }}" * 99999,
    "many outputs": "{{ x }}" * 9_000,
    "unpacked arguments": "{{ cycler(*('a' * 999999)) }}" * 300,
    "only with two messages": "{% if messages|length > 1 %}" + _LOOPS + "{% endif %}",
}


def main() -> None:
    """Runs each template, and tells its seconds and what was said."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + ROOM, in_use + ROOM))
    for name, text in HOSTILE.items():
        start, said = time.process_time(), ""
        try:
            ChatTemplate(text, {}).render((Form("user"), ANSWER))
        except DataError as error:
            said = error.message
        print(json.dumps([name, time.process_time() - start, said]), flush=True)


if __name__ == "__main__":
    main()
