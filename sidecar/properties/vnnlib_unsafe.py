"""The unsafe set of a VNN-LIB file, of either version, as pairs of domain and requirement."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from sidecar.gates.values import Literal, Region, Requirement
from sidecar.properties import formulas
from sidecar.properties.formulas import And, Formula
from sidecar.properties.normal_form import Conjunct, check_size, conjuncts, safe
from sidecar.properties.regions import EMPTY_DOMAIN, regions
from sidecar.properties.source import Complaint
from sidecar.properties.vocabulary import Feature


@dataclasses.dataclass(frozen=True)
class Unsafe:
    """What a file asserts.

    Args:
        formula: inputs and outputs for which it holds are unsafe.
        names: of the values of the input row, as the file calls them.
        places: the characters at which they are declared.
    """

    formula: Formula
    names: tuple[str, ...]
    places: tuple[int, ...]


def guards(unsafe: Formula, names: Sequence[str]) -> list[tuple[tuple[Region, ...], Requirement]]:
    """Pairs of domain and requirement, none of the domains empty: a point violates one of them exactly if it is in the
    unsafe set.

    ``unsafe`` is ``D and U``: ``D`` on inputs alone; ``U`` as a union of ``d_k and u_k``, ``d_k`` on inputs
    alone. Alternatives with the same ``d`` share a domain ``D and d`` and the requirement that no ``u_k``
    holds; domains with the same requirement are united.

    Raises:
        Complaint: nothing is unsafe, or every answer is, or it is too large; see :func:`regions` too.
    """
    if unsafe == formulas.FALSE:
        raise Complaint("the assertions contradict each other: nothing is unsafe, so there is nothing to guard")
    parts = tuple(_flattened(unsafe))
    common = conjuncts(formulas.conjunction(part for part in parts if not _speaks_of_outputs(part)))
    alternatives = _by_domain(conjuncts(formulas.conjunction(filter(_speaks_of_outputs, parts))))
    boxes = len(common) * len(alternatives)
    check_size(boxes, max(boxes * len(names), sum(map(len, common)) * len(alternatives)))
    domains: dict[Requirement, list[Conjunct]] = {}
    for domain, answers in alternatives:
        domains.setdefault(safe(answers), []).extend((*part, *domain) for part in common)
    features = tuple(Feature(name, position) for position, name in enumerate(names))
    paired = [(regions(domain, features), requirement) for requirement, domain in domains.items()]
    found = [(domain, requirement) for domain, requirement in paired if domain]
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
