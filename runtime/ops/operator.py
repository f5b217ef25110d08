"""Descriptions of an operator's inputs, outputs and attributes, and checks of a node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DType = Literal["float32", "float16", "int32", "uint8"]
AttributeType = type[str] | type[int] | type[float]
Value = str | int | float


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. Immutable."""

    name: str
    dtype: DType
    shape: str
    """In the letters of `schema`; [N, row_bytes] are blocks of a GGML format as stored."""
    meaning: str
    optional: bool = False
    """Whether it may be omitted (an empty name in the node)."""

    @property
    def is_matrix(self) -> bool:
        """Whether these are blocks of weights: constant, and read on the host by a GPU's kernel."""
        return self.dtype == "uint8"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a node. Immutable."""

    name: str
    type: AttributeType
    meaning: str
    default: Value | None = None
    """Default if the node omits it; None if it is required."""
    choices: tuple[str, ...] = ()
    """The allowed strings."""
    minimum: int | None = None
    """Minimum of a whole number."""

    def problem(self, value: object) -> str | None:
        """Return what is wrong with a value, or None."""
        # A float in a graph is never an int, and True is not a number.
        if type(value) is not self.type:
            return f"is {value!r}, no {self.type.__name__}"
        if self.choices and value not in self.choices:
            return f"is {value!r}, not one of {', '.join(map(repr, self.choices))}"
        if isinstance(value, int) and self.minimum is not None and value < self.minimum:
            return f"is {value}, less than {self.minimum}"
        return None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. Immutable."""

    name: str
    meaning: str
    """What it computes, as a formula if possible."""
    source: str
    """Source of the formula; empty if it is ours."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    attributes: tuple[Attribute, ...]
    alias: tuple[str, str] | None = None
    """An input and the output that is the same memory, written in place."""
    on_gpu: bool = True
    """Whether there is a kernel for AMD GPUs too."""

    def in_order(self, named: Mapping[str, str], *, outputs: bool = False) -> list[str]:
        """Convert value names by port to a node's list of names: "" for an omitted port.

        Raises ValueError for an unknown port, or a required one that is omitted.
        """
        ports = self.outputs if outputs else self.inputs
        if unknown := named.keys() - {port.name for port in ports}:
            raise ValueError(f"{self.name} has no {sorted(unknown)[0]}")
        names = [named.get(port.name, "") for port in ports]
        while names and not names[-1]:
            names.pop()
        self._expect_ports(ports, names)
        return names

    def by_port(self, names: list[str], *, outputs: bool = False) -> dict[str, str]:
        """Convert a node's list of names to value names by port, without omitted ones.

        Raises ValueError for more names than ports, or a required one that is omitted.
        """
        ports = self.outputs if outputs else self.inputs
        self._expect_ports(ports, names)
        return {port.name: name for port, name in zip(ports, names, strict=False) if name}

    def expect_attributes(self, values: Mapping[str, object]) -> None:
        """Raise ValueError unless a node may have these attributes."""
        known = {attribute.name: attribute for attribute in self.attributes}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"{self.name} has no attribute {name}")
            if problem := known[name].problem(value):
                raise ValueError(f"{self.name}: {name} {problem}")
        for name, attribute in known.items():
            if attribute.default is None and name not in values:
                raise ValueError(f"{self.name} needs the attribute {name}")

    def _expect_ports(self, ports: tuple[Port, ...], names: list[str]) -> None:
        if len(names) > len(ports):
            raise ValueError(f"{self.name} has {len(ports)} of these, the node {len(names)}")
        for index, port in enumerate(ports):
            if not port.optional and (index >= len(names) or not names[index]):
                raise ValueError(f"{self.name} needs {port.name}")
