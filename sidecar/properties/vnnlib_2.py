"""VNN-LIB 2.0: tensors with a shape and an element type, and their elements by index.

Understood are one ``declare-network`` with inputs and outputs, and ``assert`` as in 1.0, with ``==`` and ``!=``
besides. A declared tensor is one of the model's, by order, or by name where names stand behind the shapes. Shapes must
be the model's: a message's (``[1,784]``) or, where the first dimension counts rows, a row's (``[784]``). So must
element types; ``real`` leaves them to the model. Hidden tensors, several networks, and all else, are refused.

Source: the grammar and chapter "Query language" of the VNN-LIB standard, version 2.0 (December 2025).
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sidecar.gates.prepare import tensor_places
from sidecar.properties import formulas
from sidecar.properties.formulas import Formula, Linear
from sidecar.properties.sexpressions import Atom, Group, Node, top_level
from sidecar.properties.source import Source, shown
from sidecar.properties.vnnlib_conditions import ORDERS, Compare, Conditions, input_value, output_value
from sidecar.properties.vnnlib_unsafe import Unsafe
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

VERSION: Final = "<2.0>"

_SPACE = r"[ \t\r\n\f]*"
_WORD = r"[A-Za-z][A-Za-z0-9_]*"

_TOKEN = re.compile(
    rf"""[ \t\r\n\f]+|;[^\r\n]*|(?P<word>[()]|"[^"\r\n]*"|{_WORD}{_SPACE}\[[^][();"]*\]|[^\s();"\[\]]+|.)""",
    re.DOTALL,
)
"""A name with brackets behind it is one word: a type with its shape, or a tensor with an index."""

_NAME = re.compile(_WORD)
_BRACKETED = re.compile(rf"({_WORD}){_SPACE}\[([^]]*)\]")
_NUMBERS = re.compile(rf"{_SPACE}(?:[0-9]{{1,9}}{_SPACE}(?:,{_SPACE}[0-9]{{1,9}}{_SPACE})*)?")

_REAL: Final = ("real", "Real")
_ELEMENT_TYPES: Final[Mapping[Datatype, str]] = MappingProxyType(
    {
        Datatype.BOOL: "bool",
        Datatype.FP16: "float16",
        Datatype.BF16: "bfloat16",
        Datatype.FP32: "float32",
        Datatype.FP64: "float64",
        **{kind: kind.lower() for kind in Datatype if kind.startswith(("INT", "UINT"))},
    }
)

_COMPARISONS: Final[Mapping[str, Compare]] = MappingProxyType(
    {
        **ORDERS,
        "==": lambda left, right: formulas.conjunction([ORDERS["<="](left, right), ORDERS[">="](left, right)]),
        "!=": lambda left, right: formulas.disjunction([ORDERS["<"](left, right), ORDERS[">"](left, right)]),
    }
)

_SEVERAL = "one network is what can be guarded; state each network's own properties in a file of its own"
_HIDDEN = "hidden tensors never reach the wire, where a gate looks; state the condition on inputs and outputs"


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A declared tensor: its shape as declared, where its values begin in the row, and on which side."""

    shape: tuple[int, ...]
    start: int
    is_input: bool

    def value(self, position: int) -> Linear:
        return (input_value if self.is_input else output_value)(self.start + position)


@dataclasses.dataclass(frozen=True)
class _Declaration:
    """A declared tensor as it is written; ``onnx_name`` where one stands behind the shape."""

    name: str
    place: int
    element_type: str
    shape: tuple[int, ...]
    onnx_name: str | None


def begins(source: Source) -> bool:
    """Whether the file says that it is of this version.

    Raises:
        InputError: it says another one, or looks like this version and does not say so.
    """
    match next(top_level(source), None):
        case Group((Atom("vnnlib-version"), Atom(version, place))):
            if version != VERSION:
                raise source.error(place, f"VNN-LIB {shown(version)}; {VERSION} is read, and 1.0, which says nothing")
            return True
        case Group((Atom("vnnlib-version" | "declare-network"), *_), place):
            raise source.error(place, f"a file of VNN-LIB 2.0 begins with (vnnlib-version {VERSION})")
        case _:
            return False


def unsafe_set(source: Source, signature: ModelSignature) -> Unsafe:
    """What the file's assertions say together.

    Raises:
        InputError: not understood, or about other tensors than the model's.
    """
    return _Reader(source, signature).read()


class _Reader:
    """One pass over one file: the version, the network, the assertions, in that order."""

    def __init__(self, source: Source, signature: ModelSignature) -> None:
        self._source, self._signature = source, signature
        self._tensors: dict[str, _Tensor] = {}
        self._names: dict[int, str] = {}
        self._places: dict[int, int] = {}
        self._conditions = Conditions(source, self._variable, "an element such as X[0,1]", _COMPARISONS)

    def read(self) -> Unsafe:
        _, *commands = top_level(self._source, _TOKEN)
        if not commands:
            raise self._source.error(len(self._source.text), "the file ends where (declare-network ...) is expected")
        self._network(commands[0])
        formula = formulas.conjunction([self._assertion(node) for node in commands[1:]])
        inputs = range(self._signature.input_size)
        return Unsafe(formula, tuple(self._names[i] for i in inputs), tuple(self._places[i] for i in inputs))

    def _assertion(self, node: Node) -> Formula:
        match node:
            case Group((Atom("assert"), condition)):
                return self._conditions.condition(condition)
            case Group((Atom("declare-network"), *_), place):
                raise self._source.error(place, f"a second declare-network; {_SEVERAL}")
            case _:
                raise self._conditions.unexpected(node, "(assert CONDITION)")

    def _network(self, node: Node) -> None:
        match node:
            case Group((Atom("declare-network"), Atom(name, place), *parts)):
                self._require_name(name, place)
            case _:
                raise self._conditions.unexpected(node, "(declare-network NAME (declare-input ...) ...)")
        inputs: list[_Declaration] = []
        outputs: list[_Declaration] = []
        for part in parts:
            match part:
                case Group((Atom("declare-input"), *written), place):
                    if outputs:
                        raise self._source.error(place, "declare-input after declare-output; put all inputs first")
                    inputs.append(self._declaration(part, written))
                case Group((Atom("declare-output"), *written)):
                    outputs.append(self._declaration(part, written))
                case Group((Atom("declare-hidden"), *_), place):
                    raise self._source.error(place, f"declare-hidden: {_HIDDEN}")
                case Group((Atom("equal-to" | "isomorphic-to" as relation), *_), place):
                    raise self._source.error(place, f"{relation}: {_SEVERAL}")
                case _:
                    raise self._conditions.unexpected(part, "(declare-input ...) or (declare-output ...)")
        named = {each.onnx_name is None for each in (*inputs, *outputs)}
        if len(named) > 1:
            raise self._source.error(node.place, "some tensors have an ONNX name and some have none; name all or none")
        self._declare(node, inputs, self._signature.inputs, is_input=True)
        self._declare(node, outputs, self._signature.outputs, is_input=False)

    def _declaration(self, node: Node, written: Sequence[Node]) -> _Declaration:
        match written:
            case [Atom(name, place), Atom(typed)]:
                onnx_name = None
            case [Atom(name, place), Atom(typed), Atom(quoted)] if quoted.startswith('"') and len(quoted) > 1:
                onnx_name = quoted[1:-1]
            case _:
                raise self._conditions.unexpected(node, '(declare-... NAME TYPE [SHAPE]), perhaps with "ONNX NAME"')
        self._require_name(name, place)
        match = _BRACKETED.fullmatch(typed)
        if match is None:
            raise self._source.error(
                place, f"{name}: expected a type and a shape, as in real [1,5], got {shown(typed)}"
            )
        return _Declaration(name, place, match[1], self._numbers(match[2], place), onnx_name)

    def _numbers(self, text: str, place: int) -> tuple[int, ...]:
        if not _NUMBERS.fullmatch(text):
            raise self._source.error(place, f"expected whole numbers such as [0,1], got {shown(f'[{text}]')}")
        return tuple(map(int, re.findall("[0-9]+", text)))

    def _require_name(self, name: str, place: int) -> None:
        if not _NAME.fullmatch(name):
            raise self._source.error(place, f"expected a name of letters, digits and _, got {shown(name)}")

    def _declare(
        self, network: Node, declared: Sequence[_Declaration], specs: Sequence[TensorSpec], *, is_input: bool
    ) -> None:
        side = "inputs" if is_input else "outputs"
        if len(declared) != len(specs):
            raise self._source.error(
                network.place, f"{len(declared)} {side} are declared, and the model has {len(specs)}; is it this one?"
            )
        places = dict(zip((spec.name for spec in specs), tensor_places(specs), strict=True))
        taken: set[str] = set()
        for each, by_order in zip(declared, specs, strict=True):
            spec = by_order if each.onnx_name is None else self._by_name(each, specs)
            if each.name in self._tensors or spec.name in taken:
                raise self._source.error(each.place, f"{each.name} is declared twice; remove one declaration")
            taken.add(spec.name)
            self._require_fit(each, spec)
            start = places[spec.name].start
            self._tensors[each.name] = _Tensor(each.shape, start, is_input)
            if is_input:
                for offset, index in enumerate(itertools.product(*map(range, each.shape))):
                    self._names[start + offset] = f"{each.name}[{','.join(map(str, index))}]" if index else each.name
                    self._places[start + offset] = each.place

    def _by_name(self, each: _Declaration, specs: Sequence[TensorSpec]) -> TensorSpec:
        for spec in specs:
            if spec.name == each.onnx_name:
                return spec
        known = ", ".join(spec.name for spec in specs)
        raise self._source.error(
            each.place, f"the model has no tensor {shown(each.onnx_name or '')} on this side; it has {known}"
        )

    def _require_fit(self, each: _Declaration, spec: TensorSpec) -> None:
        batched = self._signature.batch_axis == 0
        shapes = [(1, *spec.row_shape), spec.row_shape] if batched else [spec.row_shape]
        if each.shape not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise self._source.error(
                each.place, f"{each.name} has the shape {list(each.shape)}, and the model's tensor {expected}"
            )
        kind = _ELEMENT_TYPES[spec.datatype]
        if each.element_type not in (*_REAL, kind):
            raise self._source.error(
                each.place,
                f"{each.name} has elements of type {shown(each.element_type)}, and the model's are {kind};"
                " write that, or real",
            )

    def _variable(self, text: str, place: int) -> Linear | None:
        match = _BRACKETED.fullmatch(text)
        if match is None and not _NAME.fullmatch(text):
            return None
        name, index = (text, ()) if match is None else (match[1], self._numbers(match[2], place))
        tensor = self._tensors.get(name)
        if tensor is None:
            known = ", ".join(self._tensors)
            raise self._source.error(place, f"{shown(name)} is not declared; declared: {known}")
        if len(index) != len(tensor.shape) or any(at >= size for at, size in zip(index, tensor.shape, strict=True)):
            raise self._source.error(place, f"{shown(text)}: {name} has the shape {list(tensor.shape)}, counted from 0")
        strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(index))]
        return tensor.value(sum(at * stride for at, stride in zip(index, strides, strict=True)))
