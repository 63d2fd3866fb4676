"""VNN-LIB 1.0: which of its files are read, and what they mean here.

**The flip.** A VNN-LIB file describes the *unsafe* set: the inputs and outputs for which all its assertions
hold, the counterexamples that a verifier would look for ("sat" means that one exists). A property states
the opposite: for inputs in its domain, the answer must *not* be in the unsafe set. This reader turns the
one into the other, and no other module knows of it. Inequalities there are mostly closed (``Y_1 <= Y_0``), so
the requirement's literals are strict (``y1 - y0 > 0``): a tie violates.

**Domain.** Conditions on inputs alone are the domain, conditions that mention outputs are the requirement's.
An ``or`` may mix both, each alternative with inputs of its own; alternatives are then gathered by their
domain, and each distinct requirement becomes a property: ``prop`` if it is the only one, else ``prop.1``,
``prop.2`` and so on in the file's order. Strict bounds on inputs are read as closed ones: wider, hence safe.

Understood are ``declare-const`` of ``X_i`` and ``Y_i`` (positions in the flattened row) as ``Real``, and
``assert`` with ``and``, ``or``, ``<=``, ``<``, ``>=``, ``>``, ``+``, ``-`` and ``*`` by constants. All else is refused.
"""

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

from sidecar.errors import InputError
from sidecar.gates.values import Action, Literal, Mode, Norm, Region, Requirement
from sidecar.numerics import DEFAULT_MARGIN
from sidecar.properties import formulas
from sidecar.properties.formulas import And, Formula, Linear
from sidecar.properties.normal_form import Conjunct, check_size, conjuncts, safe
from sidecar.properties.rationals import decimal
from sidecar.properties.regions import EMPTY_DOMAIN, regions
from sidecar.properties.sexpressions import Atom, Group, Node, top_level
from sidecar.properties.source import Complaint, Source, decode, read_content, shown
from sidecar.properties.values import Property, PropertyFile, Traceability
from sidecar.properties.vocabulary import Feature
from sidecar.tensors import ModelSignature

MAX_FILE_BYTES: Final = 4 << 20
"""Decompressed size; a file about 3072 inputs takes 400 kB."""

SUFFIXES: Final = (".vnnlib", ".vnnlib.gz")

_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")


def read_vnnlib(path: Path, signature: ModelSignature) -> PropertyFile:
    """The properties of one VNN-LIB file, each with the defaults: project, enforce, nearest in L2.

    Args:
        path: ends in ``.vnnlib`` or ``.vnnlib.gz``; the rest of its name becomes the property's id.
        signature: the model's; the file must declare exactly its inputs and outputs.

    Raises:
        InputError: unreadable, not understood, or describing no guardable property; says where.
    """
    return properties_in(path, read_content(path, MAX_FILE_BYTES), signature)


def properties_in(path: Path, content: bytes, signature: ModelSignature) -> PropertyFile:
    """The properties in a file's (decompressed) content; else as :func:`read_vnnlib`."""
    source = decode(path, content)
    stem = path.name.removesuffix(".gz").removesuffix(".vnnlib")
    if not stem:
        raise InputError(f"{path}: the file's name without .vnnlib becomes the property's id, and nothing is left")
    found = _Reader(source, signature).read()
    ids = [stem] if len(found) == 1 else [f"{stem}.{number}" for number in range(1, len(found) + 1)]
    properties = tuple(_property(name, *parts) for name, parts in zip(ids, found, strict=True))
    return PropertyFile(path.name, content, model_name=None, batch_axis=None, properties=properties)


def _property(name: str, domain: tuple[Region, ...], requirement: Requirement) -> Property:
    return Property(
        trace=Traceability(name),
        domain=domain,
        requirement=requirement,
        action=Action.PROJECT,
        margin=DEFAULT_MARGIN,
        norm=Norm.L2,
        mode=Mode.ENFORCE,
        fallback=None,
    )


class _Reader:
    """One pass over one file: declarations are collected, assertions are translated."""

    def __init__(self, source: Source, signature: ModelSignature) -> None:
        self._source = source
        self._sizes = {"X": signature.input_size, "Y": signature.output_size}
        self._declared: dict[str, int] = {}

    def read(self) -> list[tuple[tuple[Region, ...], Requirement]]:
        """Pairs of domain and requirement; a point violates one of them exactly if it is in the unsafe set."""
        assertions = [formula for node in top_level(self._source) for formula in self._command(node)]
        for letter, size in self._sizes.items():
            for name in (f"{letter}_{index}" for index in range(size)):
                if name not in self._declared:
                    raise self._source.error(
                        0, f"{name} is not declared, but the model has {size} such values; is this file for it?"
                    )
        try:
            return _guards(formulas.conjunction(assertions), self._sizes["X"])
        except Complaint as complaint:
            place = 0 if complaint.feature is None else self._declared[f"X_{complaint.feature}"]
            raise self._source.error(place, str(complaint)) from None

    def _command(self, node: Node) -> Iterator[Formula]:
        """What one top-level expression asserts; a declaration asserts nothing."""
        match node:
            case Group((Atom("declare-const"), Atom(name, index), Atom("Real"))):
                self._declare(name, index)
            case Group((Atom("assert"), condition)):
                yield self._condition(condition)
            case _:
                raise self._unexpected(node, "(declare-const NAME Real) or (assert CONDITION)")

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

    def _condition(self, node: Node) -> Formula:
        match node:
            case Group((Atom("and"), first, *rest)):
                return formulas.conjunction(self._condition(part) for part in (first, *rest))
            case Group((Atom("or"), first, *rest)):
                return formulas.disjunction(self._condition(part) for part in (first, *rest))
            case Group((Atom("<=" | "<" | ">=" | ">" as comparison), left, right)):
                with self._source.at(node.place):
                    return _compared(comparison, self._term(left), self._term(right))
            case _:
                raise self._unexpected(node, "(and ...), (or ...) or one of <= < >= > with two terms")

    def _term(self, node: Node) -> Linear:
        match node:
            case Atom(text, index):
                return self._atom(text, index)
            case Group((Atom("+"), first, *rest)):
                return formulas.total(self._term(part) for part in (first, *rest))
            case Group((Atom("-"), only)):
                return self._term(only).scaled(Fraction(-1))
            case Group((Atom("-"), first, *rest)):
                subtracted = (self._term(part).scaled(Fraction(-1)) for part in rest)
                return formulas.total((self._term(first), *subtracted))
            case Group((Atom("*"), first, *rest)):
                return formulas.product([self._term(part) for part in (first, *rest)])
            case _:
                raise self._unexpected(node, "a number, X_i, Y_i, or one of + - * with terms")

    def _atom(self, text: str, index: int) -> Linear:
        match = _VARIABLE.fullmatch(text)
        if match is None:
            with self._source.at(index):
                return formulas.constant(decimal(text))
        if text not in self._declared:
            raise self._source.error(index, f"{text} is not declared; put (declare-const {text} Real) before it")
        one = {int(match[2]): Fraction(1)}
        return Linear({}, one, Fraction(0)) if match[1] == "X" else Linear(one, {}, Fraction(0))

    def _unexpected(self, node: Node, expected: str) -> InputError:
        match node:
            case Atom(text) | Group((Atom(text), *_)):
                got = shown(text)
            case _:
                got = "brackets without an operator"
        return self._source.error(node.place, f"expected {expected}, got {got}")


def _compared(comparison: str, left: Linear, right: Linear) -> Formula:
    strict = comparison in ("<", ">")
    if comparison in ("<=", "<"):
        return formulas.at_least(right, left, strict)
    return formulas.at_least(left, right, strict)


def _guards(unsafe: Formula, inputs: int) -> list[tuple[tuple[Region, ...], Requirement]]:
    """The unsafe set as pairs of domain and requirement, none of the domains empty.

    ``unsafe`` is ``D and U``: ``D`` on inputs alone; ``U`` as a union of ``d_k and u_k``, ``d_k`` on inputs
    alone. Alternatives with the same ``d`` share a domain ``D and d`` and the requirement that no ``u_k``
    holds; domains with the same requirement are united.
    """
    if unsafe == formulas.FALSE:
        raise Complaint("the assertions contradict each other: nothing is unsafe, so there is nothing to guard")
    parts = tuple(_flattened(unsafe))
    common = conjuncts(formulas.conjunction(part for part in parts if not _speaks_of_outputs(part)))
    alternatives = _by_domain(conjuncts(formulas.conjunction(filter(_speaks_of_outputs, parts))))
    boxes = len(common) * len(alternatives)
    check_size(boxes, max(boxes * inputs, sum(map(len, common)) * len(alternatives)))
    domains: dict[Requirement, list[Conjunct]] = {}
    for domain, answers in alternatives:
        domains.setdefault(safe(answers), []).extend((*part, *domain) for part in common)
    features = tuple(Feature(f"X_{index}", index) for index in range(inputs))
    guards = [(regions(domain, features), requirement) for requirement, domain in domains.items()]
    found = [(domain, requirement) for domain, requirement in guards if domain]
    if not found:
        raise Complaint(EMPTY_DOMAIN)
    return found


def _flattened(formula: Formula) -> Iterator[Formula]:
    if isinstance(formula, And):
        for part in formula.parts:
            yield from _flattened(part)
    else:
        yield formula


def _speaks_of_outputs(formula: Formula) -> bool:
    if isinstance(formula, Literal):
        return bool(formula.outputs)
    return any(map(_speaks_of_outputs, formula.parts))


def _by_domain(alternatives: Iterable[Conjunct]) -> list[tuple[Conjunct, tuple[Conjunct, ...]]]:
    """Alternatives of the unsafe set, gathered by their conditions on inputs alone."""
    gathered: dict[frozenset[Literal], tuple[Conjunct, list[Conjunct]]] = {}
    for alternative in alternatives:
        domain = tuple(literal for literal in alternative if not literal.outputs)
        answers = tuple(literal for literal in alternative if literal.outputs)
        if not answers:
            raise Complaint("for some inputs every output is unsafe; expected a condition on Y_i in each alternative")
        gathered.setdefault(frozenset(domain), (domain, []))[1].append(answers)
    return [(domain, tuple(answers)) for domain, answers in gathered.values()]
