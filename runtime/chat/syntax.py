"""Finds in a template's syntax tree which fields of a message it reads."""

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import meta, nodes

CONTENT = "content"
MAX_INDIRECTIONS = 10
"""Variables and macros through which a content is followed, one after the other."""
OF_ATTRIBUTES = frozenset({"selectattr", "rejectattr"})
"""Filters that never apply to a string; nor does `map` with an attribute."""
OF_ENTRIES = OF_ATTRIBUTES | {"first", "last", "map", "select", "reject"}
"""Filters that give no content when they are put on one."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The fields and types of messages that a template reads. Immutable."""

    parts: bool
    """Whether it iterates the parts of a content."""
    asks_for_text: bool
    """Whether it tests if a content is a string, and so accepts both."""
    names: frozenset[str]
    """Every name that it may look up in a message."""
    variables: frozenset[str]
    """Every variable that it reads."""


def reads_of(source: nodes.Template) -> Reads:
    """Analyze a template's syntax tree.

    Variables and parameters of macros that are given a content are followed by their name, without
    regard to scopes: two variables of one name count as one.
    """
    contents = _names_of_contents(source)
    return Reads(
        parts=any(_goes_through(node, contents) for node in source.find_all(nodes.Node)),
        asks_for_text=any(
            test.name == "string" and _is_content(test.node, contents)
            for test in source.find_all(nodes.Test)
        ),
        names=frozenset(node.attr for node in source.find_all(nodes.Getattr))
        | frozenset(node.value for node in source.find_all(nodes.Const) if _is_word(node.value)),
        variables=frozenset(meta.find_undeclared_variables(source)),
    )


def _names_of_contents(source: nodes.Template) -> frozenset[str]:
    """Return the names of variables that are assigned a content."""
    given = list(_given(source))
    known: frozenset[str] = frozenset()
    for _ in range(MAX_INDIRECTIONS):
        found = known | {name for name, value in given if _is_content(value, known)}
        if found == known:
            break
        known = found
    return known


def _given(source: nodes.Template) -> Iterator[tuple[str, nodes.Node]]:
    """Yield names and their values: from assignments, and parameters of macros."""
    macros = {macro.name: macro for macro in source.find_all(nodes.Macro)}
    for assigned in source.find_all(nodes.Assign):
        for name in _names_in(assigned.target):
            yield name, assigned.node
    for call in source.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and (macro := macros.get(call.node.name)):
            yield from zip((each.name for each in macro.args), call.args, strict=False)
            yield from ((each.key, each.value) for each in call.kwargs)


def _names_in(target: nodes.Node) -> set[str]:
    if isinstance(target, nodes.NSRef):
        return {target.attr}
    return {target.name} if isinstance(target, nodes.Name) else set()


def _is_content(node: nodes.Node | None, contents: frozenset[str]) -> bool:
    """Whether an expression may be the content of a message."""
    match node:
        case nodes.Name():
            return node.name in contents
        case nodes.Getattr():
            return node.attr == CONTENT or node.attr in contents
        case nodes.Getitem():
            return isinstance(node.arg, nodes.Const) and node.arg.value == CONTENT
        case nodes.Filter():
            return node.name not in OF_ENTRIES and _is_content(node.node, contents)
        case nodes.CondExpr():
            return _is_content(node.expr1, contents) or _is_content(node.expr2, contents)
        case nodes.And() | nodes.Or():
            return _is_content(node.left, contents) or _is_content(node.right, contents)
        case nodes.Call(node=nodes.Getattr(attr="get"), args=[nodes.Const(value=name), *_]):
            return bool(name == CONTENT)
    return False


def _goes_through(node: nodes.Node, contents: frozenset[str]) -> bool:
    """Whether a node takes the parts of a content one by one."""
    match node:
        case nodes.For():
            return _is_content(node.iter, contents)
        case nodes.Filter():
            by_attribute = any(each.key == "attribute" for each in node.kwargs)
            is_of_parts = node.name in OF_ATTRIBUTES or (node.name == "map" and by_attribute)
            return is_of_parts and _is_content(node.node, contents)
        case nodes.Getattr() | nodes.Getitem():
            return _is_entry(node.node, contents)
    return False


def _is_entry(node: nodes.Node, contents: frozenset[str]) -> bool:
    """Whether an expression is one part of a content, as `content[0]` is."""
    match node:
        case nodes.Getitem(arg=nodes.Const(value=int())):
            return _is_content(node.node, contents)
        case nodes.Filter(name="first" | "last"):
            return _is_content(node.node, contents)
    return False


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()
