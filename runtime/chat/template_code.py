"""Compiles chat templates to Python code that calls the sandbox's methods.

Literals become the template's own text, and each block of statements is charged for its nodes.
"""

from collections.abc import Iterable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators
from jinja2.ext import Extension
from jinja2.parser import Parser


class TrackingCodeGenerator(CodeGenerator):
    """Compiles literals as the template's own text, and charges each block."""

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        block = list(nodes)
        self.writeline(f"environment.step({sum(map(_nodes_of, block)) + 1})")
        super().blockvisit(block, frame)

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if isinstance(node, nodes.TemplateData):
            return node.data
        raise nodes.Impossible

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.own({''.join(group)!r})"

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("environment.text(")

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        value = node.as_const(frame.eval_ctx)
        if isinstance(value, str):
            self.write(f"environment.own({str(value)!r})")
        else:
            super().visit_Const(node, frame)

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Frame) -> None:
        self.write(f"environment.own({node.data!r})")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        left = ""
        self.write("(")
        for place, operand in enumerate(node.ops):
            self.write(" and environment.compare(" if place else "environment.compare(")
            if place:
                self.write(left)
            else:
                self._visit_looked_at(node.expr, frame)
            self.write(f", {operators[operand.op]!r}, ")
            if place < len(node.ops) - 1:  # a < b < c computes b once
                left = self.temporary_identifier()
                self.write(f"({left} := ")
                self.visit(operand.expr, frame)
                self.write("))")
            else:
                self._visit_looked_at(operand.expr, frame)
                self.write(")")
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if not isinstance(node.arg, nodes.Slice):
            self.write("environment.getitem(")
            self.visit(node.node, frame)
            self.write(", ")
            self._visit_looked_at(node.arg, frame)
            self.write(")")
            return
        self.write("environment.sliced(")
        self.visit(node.node, frame)
        for bound in (node.arg.start, node.arg.stop, node.arg.step):
            self.write(", ")
            if bound is None:
                self.write("None")
            else:
                self.visit(bound, frame)
        self.write(")")

    def visit_ScopedEvalContextModifier(
        self, node: nodes.ScopedEvalContextModifier, frame: Frame
    ) -> None:
        self.fail("autoescape is for HTML, which no prompt is", node.lineno)

    def _visit_looked_at(self, node: nodes.Expr, frame: Frame) -> None:
        """Visit an expression whose value is not printed."""
        if isinstance(node, nodes.Const):
            super().visit_Const(node, frame)
        else:
            self.visit(node, frame)


class GenerationTag(Extension):
    """`{% generation %}` marks an assistant's text for training; here only its content counts."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the content of the tag, with its own variables."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _calling(name: str, argument: nodes.Expr) -> nodes.Expr:
    """Return a call of a method of the environment."""
    return nodes.Call(nodes.EnvironmentAttribute(name), [argument], [], None, None)


def _nodes_of(node: nodes.Node) -> int:
    """Return the number of nodes of a statement, without those of blocks inside it."""
    return 1 + sum(_nodes_of(child) for child in node.iter_child_nodes(exclude=("body", "else_")))


def charge_tree(source: nodes.Template) -> None:
    """Insert charges for the conditions of loops, and for arguments from `*` and `**`."""
    for loop in source.find_all(nodes.For):
        if loop.test is not None:  # entries that it leaves out run no block
            paid = _calling("step", nodes.Const(_nodes_of(loop.test)))
            loop.test = nodes.And(paid, loop.test).set_lineno(loop.lineno)
    for call in source.find_all((nodes.Call, nodes.Filter, nodes.Test)):
        assert isinstance(call, nodes.Call | nodes.Filter | nodes.Test)
        if call.dyn_args is not None:
            call.dyn_args = _calling("spread", call.dyn_args)
        if call.dyn_kwargs is not None:
            call.dyn_kwargs = _calling("spread", call.dyn_kwargs)
