"""Templates that would take all time or memory, and a program that renders them in small memory.

Run as a program it renders each in a process whose memory is limited, and prints a JSON object:
what each ended with, by name. Its one argument is the bytes that a rendering may take.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GROWING = (
    "{{% set ns = namespace(x={start}) %}}{{% for i in range({rounds}) %}}"
    "{{% set x = ns.x %}}{{% set ns.x = {grown} %}}{{% endfor %}}{end}"
)


def growing(start: str, grown: str, rounds: int = 40, end: str = "{{ ns.x | length }}") -> str:
    """A template that puts what it has through an expression again and again."""
    return GROWING.format(start=start, grown=grown, rounds=rounds, end=end)


def again(expression: str, before: str = "", rounds: int = 99_999) -> str:
    """A template that computes an expression many times, in two loops."""
    return (
        f"{before}{{% for i in range({rounds}) %}}{{% for j in range({rounds}) %}}"
        f"{{% set y = {expression} %}}{{% endfor %}}{{% endfor %}}"
    )


LONG = "{% set long = 'ab' * 8000000 %}"
MANY = "{% set many = range(99999) | list %}"
DOUBLED = (
    "{% set ns = namespace(x=['a'], y=['a']) %}{% for i in range(60) %}"
    "{% set x = ns.x %}{% set y = ns.y %}{% set ns.x = [x, x] %}{% set ns.y = [y, y] %}"
    "{% endfor %}"
)

ATTACKS: dict[str, str] = {
    # Bytes, and numbers of any size.
    "bytes": "{{ ('a'.encode() * 3000000000) | length }}",
    "bytes widened": "{{ 'a'.encode().ljust(3000000000) }}",
    "bytes of a number": "{{ (1).to_bytes(3000000000, 'big') }}",
    "bytes by a filter": "{{ (messages | map(attribute='content') | first).encode() }}",
    "a power": "{{ 9 ** 99999999 }}",
    "powers of powers": growing("9", "x ** 9"),
    "a product again and again": growing("9", "x * x", 99),
    "a number of a long text": "{{ ('f' * 4000000) | int(0, 16) // 3 }}",
    "rounded to far": "{{ 7.5 | round(999999999, 'ceil') }}",
    "rounded to the left": "{{ 7 | round(-999999999) }}",
    # Texts that grow.
    "a product": "{{ 'a' * 3000000000 }}",
    "a product of nothing": "{{ '' * 999999999999 ~ '' * 99999999999 ~ (bos_token * 9999999999) }}",
    "doubled by +": growing("'aa'", "x + x"),
    "doubled by ~": growing("'aa'", "x ~ x"),
    "doubled by replace": growing("'aa'", "x.replace('a', x)"),
    "doubled by the filter replace": growing("'aa'", "x | replace('a', x)"),
    "doubled by join": growing("'aa'", "[x, x] | join(x)"),
    "doubled by the method join": growing("'aa'", "x.join([x, x])"),
    "doubled by format": growing("'aa'", "'{0}{0}'.format(x)"),
    "doubled by %": growing("'aa'", "'%s%s' % (x, x)"),
    "doubled by the filter format": growing("'aa'", "'%s%s' | format(x, x)"),
    "doubled by a macro": "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}"
    + growing("'aa'", "twice(x)"),
    "doubled by a block that is set": "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
    "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "grown by escape": growing("'&' * 1000000", "x | escape", 99),
    "grown by urlencode": growing("'é' * 1000000", "x | urlencode", 99),
    "grown by tojson": growing("'\\\\\"'", "x | tojson", 99),
    "grown by translate": growing("'aa'", "x.translate({97: x})"),
    "grown by indent": growing("'a\\n' * 4000", "x | indent(4000)", 9),
    "grown by wordwrap": "{{ ('a' * 100000) | wordwrap(1, true, 'b' * 100000) | length }}",
    "grown by title": again("long | title", LONG),
    "wide by ljust": "{{ 'a'.ljust(3000000000) }}",
    "wide by zfill": "{{ 'a'.zfill(3000000000) }}",
    "wide by expandtabs": "{{ ('\\t' * 100000).expandtabs(100000) }}",
    "wide by center": "{{ 'a' | center(3000000000) }}",
    "wide by indent": "{{ 'a' | indent(3000000000, true) }}",
    "wide by tojson": "{{ messages | tojson(indent=999999999) }}",
    "wide by %": "{{ '%3000000000d' % 1 }}",
    "wide by a star": "{{ '%*d' % (3000000000, 1) }}",
    "precise by %": "{{ '%.3000000000f' % 1 }}",
    "wide by format": "{{ '{:3000000000}'.format(1) }}",
    "wide by format inside": "{{ '{:{}}'.format(1, 3000000000) }}",
    "wide by format_map": "{{ '{a:3000000000}'.format_map({'a': 1}) }}",
    "many texts kept": "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}"
    "{% set ns.l = ns.l + ['a' * 8000000] %}{% endfor %}",
    "many texts printed": LONG + "{% for i in range(9999) %}{{ long }}{% endfor %}",
    "the time at length": "{{ strftime_now('%c' * 9000000) | length }}",
    # Lists and mappings that grow.
    "a list times": "{{ ([0] * 3000000000) | length }}",
    "a tuple times": "{{ ((0,) * 3000000000) | length }}",
    "a list doubled": growing("[1, 2]", "x + x"),
    "lists kept": growing("[]", "x + [[i] * 3000000]", 99),
    "lists in mappings": growing("{}", "{'a': x, 'b': [i] * 3000000}", 99),
    "a list from batch": "{{ messages | batch(3000000000, 1) | list | length }}",
    "lists from slice": "{{ messages | slice(3000000000) | list | length }}",
    "a list of a long text": again("long | list", LONG),
    "a split of a long text": again("long.split('a')", LONG),
    "lines of a long text": again("long.splitlines()", "{% set long = '\\n' * 8000000 %}"),
    "words of a long text": again("long.split()", "{% set long = 'a ' * 8000000 %}"),
    "words counted": again("long | wordcount", "{% set long = 'a ' * 8000000 %}"),
    "a range": "{{ range(1000000000) }}",
    "ranges": again("range(99999) | list"),
    "a long text as arguments": "{% macro m() %}{% endmacro %}{% set l = 'é' * 8000000 %}"
    "{{ m(*l) }}",
    "a list as arguments": MANY + "{{ namespace(*many) }}",
    "namespaces": again("namespace(a=namespace(b=ns), c=[1, 2])", "{% set ns = 1 %}"),
    "cyclers": again("cycler(1, 2, 3)"),
    "mappings copied": again("d.copy()", "{% set d = {}.fromkeys(range(9999)) %}"),
    # Lists inside lists: small to have, endless to look at.
    "a doubled list printed": DOUBLED + "{{ ns.x }}",
    "a doubled list as JSON": DOUBLED + "{{ ns.x | tojson }}",
    "a doubled list pretty": DOUBLED + "{{ ns.x | pprint }}",
    "a doubled list as text": DOUBLED + "{{ ns.x | string | length }}",
    "a doubled list in %": DOUBLED + "{{ '%s' % ns.x }}{{ '%r' % (ns.x,) }}",
    "a doubled list in format": DOUBLED + "{{ '{!r}'.format(ns.x) }}",
    "a doubled list joined": DOUBLED + "{{ ns.x | join }}",
    "a doubled list trimmed": DOUBLED + "{{ ns.x | trim }}",
    "a doubled list escaped": DOUBLED + "{{ ns.x | e }}",
    "a doubled list compared": DOUBLED + "{{ ns.x == ns.y }}",
    "a doubled list looked for": DOUBLED + "{{ ns.x in [ns.y] }}",
    "a doubled list counted": DOUBLED + "{{ [ns.y].count(ns.x) }}",
    "a doubled list by a test": DOUBLED + "{{ ns.x is eq(ns.y) }}",
    "a doubled list that is lower": DOUBLED + "{{ ns.x is lower }}",
    "a doubled list sorted": DOUBLED + "{{ [ns.x, ns.y] | sort }}",
    "a doubled list as a key": DOUBLED + "{{ {}[ns.x] + 1 }}",
    "a doubled list that changes": DOUBLED
    + "{% for i in range(2) %}{{ loop.changed(ns.x if i else ns.y) }}{% endfor %}",
    "a doubled list in a message": DOUBLED + "{{ raise_exception(ns.x) }}",
    "doubled tuples as keys": "{% set ns = namespace(x=('a',)) %}{% for i in range(60) %}"
    "{% set x = ns.x %}{% set ns.x = (x, x) %}{% endfor %}{{ {}[ns.x] }}",
    "deep tuples as keys": "{% set ns = namespace(x=()) %}{% for i in range(99999) %}"
    "{% set x = ns.x %}{% set ns.x = (x,) %}{% endfor %}{{ {}[ns.x] }}",
    "deep lists printed": growing("[]", "[x]", 99_999, "{{ ns.x }}"),
    "deep lists as JSON": growing("[]", "[x]", 99_999, "{{ ns.x | tojson }}"),
    "deep arguments": "{% macro m() %}{% set ns.x = varargs %}{% endmacro %}"
    "{% set ns = namespace(x=1) %}{% for i in range(99999) %}{{ m(ns.x) }}{% endfor %}"
    "{{ {}[ns.x] }}",
    "deep filters": growing("[1]", "[x | map('abs') | list]", 99_999, "{{ ns.x | list }}"),
    "namespaces in a ring": "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}"
    "{{ ns.a | tojson }}",
    # Time.
    "loops": again("1"),
    "loops that leave all out": "{% for i in range(99999) %}{% for j in range(99999) if false %}"
    "{% endfor %}{% endfor %}",
    "loops over letters": LONG + "{% for c in long %}{% endfor %}",
    "a loop that calls itself": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "macros that call each other": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}"
    "{{ m(n - 1) }}{% endif %}"
    "{% endmacro %}{{ m(40) }}",
    "a macro without an end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "blocks that call each other": "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}",
    "callers": "{% macro m(n) %}{% if n %}{{ caller and '' }}"
    "{% call m(n - 1) %}{% endcall %}{% call m(n - 1) %}"
    "{% endcall %}{% endif %}{% endmacro %}{{ m(40) }}",
    "many nodes in a loop": "{% for i in range(99999) %}{% for j in range(9999) %}"
    + "{% if i %}{% endif %}" * 3000
    + "{% endfor %}{% endfor %}",
    "count in a long text": again("long.count('aab')", LONG),
    "find in a long text": again("'aab' in long", LONG),
    "find from behind": again("long.rfind('b' + 'a' * 5000)", "{% set long = 'a' * 10000 %}"),
    "find what nearly fits": again(
        "long.find('a' * 600 + 'b' + 'a' * 600)", "{% set long = 'a' * 2400 %}"
    ),
    "replace in a long text": again("long.replace('c', 'd')", LONG),
    "upper of a long text": again("long.upper()", LONG),
    "upper by a filter": again("long | upper", LONG),
    "strip of many letters": again("long.strip('ab' + 'c' * 9000)", LONG),
    "slices of a long text": again("long[1:]", LONG),
    "turned text": again("long[::-1]", LONG),
    "reversed text": again("long | reverse", LONG),
    "equal texts": again("long == other", LONG + "{% set other = 'ab' * 8000000 %}"),
    "sorted text": again("long | sort", "{% set long = 'ab' * 100000 %}"),
    "sorted lists": again("many | sort(reverse=true)", MANY),
    "grouped lists": again("many | groupby('a')", "{% set many = [{'a': 1}] * 99999 %}"),
    "unique lists": again("many | unique", MANY),
    "mapped lists": again("many | map('abs')", MANY),
    "mapped by a filter that widens": "{{ range(99999) | map('string')"
    " | map('center', 99999) | list }}",
    "selected lists": again("many | select('odd')", MANY),
    "added lists": "{% set l = range(9999) | batch(1) | list %}{{ l | sum(start=[]) | length }}"
    * 20,
    "attributes of attributes": "{% set ns = namespace() %}{% set ns.a = ns %}"
    "{% set many = [ns] * 9999 %}{{ many | map(attribute='a.' * 9999 ~ 'a') | list | length }}",
    "lists looked through": again("-1 in many", MANY),
    "lists sliced": again("many[1:]", MANY),
    "lists added": again("many + many", MANY),
    "JSON": again("messages | tojson(indent=4)"),
    "pretty lists": again("many | pprint", MANY),
    "wrapped text": "{{ ('a' * 4000000) | wordwrap(1) | length }}",
    "tags taken out": "{{ ('<!---->' * 1000000) | striptags | length }}",
    "long %": again("'%s' * 99999 % many", "{% set many = (1,) * 99999 %}"),
    "long format": again("('{}' * 9999).format(*many)", "{% set many = [1] * 9999 %}"),
    "include": "{% include 'a' %}",
    "import": "{% import 'a' as b %}",
    "extends": "{% extends 'a' %}",
    "autoescape": "{% autoescape true %}{{ messages }}{% endautoescape %}",
}
"""By name; each must end with an error of ours."""


@dataclass(frozen=True)
class TokenizerOf:
    """As much of a tokenizer as a template asks for."""

    chat_template: str
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    bos: int = 1
    eos: int = 2

    def token_text(self, token: int) -> str:
        """The name of a token."""
        return {1: "<s>", 2: "</s>"}[token]

    def reserving(self, template: str) -> "TokenizerOf":
        """The same, since it makes no tokens that a template could reserve."""
        return self


def main() -> None:
    from runtime.chat import ChatTemplate
    from runtime.errors import InvalidRequest

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name, source in ATTACKS.items():
        began = time.process_time()
        try:
            text = ChatTemplate(TokenizerOf(source)).render([{"role": "user", "content": "Hi"}])  # type: ignore[arg-type]
            end = f"rendered {len(text)} characters"
        except InvalidRequest as error:
            end = f"refused: {error}"
        print(json.dumps([name, end, round(time.process_time() - began, 3)]), flush=True)


if __name__ == "__main__":
    main()
