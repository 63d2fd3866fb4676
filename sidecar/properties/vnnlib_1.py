"""VNN-LIB 1.0: scalars ``X_i`` and ``Y_i``, by their positions in the flattened row.

Understood are ``declare-const`` of them as ``Real``, and ``assert`` with ``and``, ``or``, ``<=``, ``<``, ``>=``, ``>``,
``+``, ``-`` and ``*`` by constants. All else is refused.
"""

import re
from collections.abc import Iterator

from sidecar.properties import formulas
from sidecar.properties.formulas import Formula, Linear
from sidecar.properties.sexpressions import Atom, Group, Node, top_level
from sidecar.properties.source import Source, shown
from sidecar.properties.vnnlib_conditions import ORDERS, Conditions, input_value, output_value
from sidecar.properties.vnnlib_unsafe import Unsafe
from sidecar.tensors import ModelSignature

_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")


def unsafe_set(source: Source, signature: ModelSignature) -> Unsafe:
    """What the file's assertions say together.

    Raises:
        InputError: not understood, or about other values than the model's.
    """
    return _Reader(source, signature).read()


class _Reader:
    """One pass over one file: declarations are collected, assertions are translated."""

    def __init__(self, source: Source, signature: ModelSignature) -> None:
        self._source = source
        self._sizes = {"X": signature.input_size, "Y": signature.output_size}
        self._declared: dict[str, int] = {}
        self._conditions = Conditions(source, self._variable, "X_i, Y_i", ORDERS)

    def read(self) -> Unsafe:
        assertions = [formula for node in top_level(self._source) for formula in self._command(node)]
        for letter, size in self._sizes.items():
            for name in (f"{letter}_{index}" for index in range(size)):
                if name not in self._declared:
                    raise self._source.error(
                        0, f"{name} is not declared, but the model has {size} such values; is this file for it?"
                    )
        names = tuple(f"X_{index}" for index in range(self._sizes["X"]))
        return Unsafe(formulas.conjunction(assertions), names, tuple(self._declared[name] for name in names))

    def _command(self, node: Node) -> Iterator[Formula]:
        """What one top-level expression asserts; a declaration asserts nothing."""
        match node:
            case Group((Atom("declare-const"), Atom(name, index), Atom("Real"))):
                self._declare(name, index)
            case Group((Atom("assert"), condition)):
                yield self._conditions.condition(condition)
            case _:
                raise self._conditions.unexpected(node, "(declare-const NAME Real) or (assert CONDITION)")

    def _declare(self, name: str, index: int) -> None:
        match = _VARIABLE.fullmatch(name)
        if match is None:
            raise self._source.error(index, f"expected a name such as X_0 or Y_0, got {shown(name)}")
        if int(match[2]) >= self._sizes[match[1]]:
            side = {"X": "inputs", "Y": "outputs"}[match[1]]
            raise self._source.error(index, f"{name}: the model has {self._sizes[match[1]]} {side}, counted from 0")
        if name in self._declared:
            raise self._source.error(index, f"{name} is declared twice; remove one declaration")
        self._declared[name] = index

    def _variable(self, text: str, index: int) -> Linear | None:
        match = _VARIABLE.fullmatch(text)
        if match is None:
            return None
        if text not in self._declared:
            raise self._source.error(index, f"{text} is not declared; put (declare-const {text} Real) before it")
        return (input_value if match[1] == "X" else output_value)(int(match[2]))
