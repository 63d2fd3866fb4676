"""Can all properties that meet on an input be kept at once? Proved before anything is sealed, in exact arithmetic.

For each maximal overlap, one constant output row is sought that satisfies every clause, margins included, for
all inputs of the overlap's box (inputs in literals count with their worst value). The witness is rounded to the
wire datatypes and checked again, so what is proved is that the sidecar *can send* a satisfying answer. Where
literals mention inputs, one constant may not do for the whole box, which is then halved a few times; a single
input for which no answer satisfies proves a contradiction.

Fallbacks are proved here too: each must satisfy whatever can meet its gate.

Actions: where a gate with action `refuse` takes part, an overlap that cannot be satisfied is allowed and
noted: whichever gate fires there, the client gets an error, which is what the property asked for.
"""

import enum
from collections.abc import Iterator, Sequence
from fractions import Fraction

from sidecar.bundle.naming import Naming, wire_naming
from sidecar.bundle.readable import interval_text
from sidecar.compiler.overlaps import MAX_OVERLAPS, Overlap, maximal_overlaps, parts, too_many
from sidecar.errors import NegativeAnswer
from sidecar.gates.linear_program import Constraint, Status, maximize
from sidecar.gates.values import Action, Box, Clause, Gate, Literal, Terms
from sidecar.numerics import largest_finite, round_to_datatype, smallest_finite
from sidecar.tensors import ModelSignature

MAX_PROGRAMS = 2_000
"""Linear programs solved for one question before it counts as unknown."""

FEW_PROGRAMS = 64
"""Likewise, where the question may be divided instead."""

MAX_HALVINGS = 6
"""How often a box is halved in search of witnesses where requirements mention inputs."""

MAX_BOUNDS_SHOWN = 8
"""Inputs whose bounds a message shows."""


class Satisfiability(enum.Enum):
    """Whether every input of a box has an answer that satisfies all clauses."""

    PROVED = enum.auto()
    CONTRADICTORY = enum.auto()
    UNKNOWN = enum.auto()


def require_joint_satisfiability(
    gates: Sequence[Gate], signature: ModelSignature, naming: Naming | None = None
) -> tuple[str, ...]:
    """Check every overlap and every fallback.

    Args:
        gates: of one model, domains effective.
        signature: of that model.
        naming: what messages call the inputs, and in which units; None for the tensors' names and wire units.

    Returns:
        Notes for the person who compiles: overlaps in which a gate with action `refuse` takes part and no
        answer satisfies all, or none is proved to.

    Raises:
        NegativeAnswer: properties without action `refuse` that contradict each other, or cannot be proved jointly
            satisfiable; or a fallback that is not proved to satisfy. Names the properties and the box.
        InputError: there are more than ``MAX_OVERLAPS`` overlaps.
    """
    notes: list[str] = []
    pending = list(reversed(maximal_overlaps(gates)))
    examined = {overlap.members for overlap in pending}
    while pending:
        question = _Question(pending.pop(), gates, signature, naming or wire_naming(signature))
        if not question.vacuous:
            notes.extend(question.examine())
        if question.vacuous or question.mentions_inputs:
            smaller = [part for part in parts(question.overlap, gates) if part.members not in examined]
            examined.update(part.members for part in smaller)
            pending.extend(reversed(smaller))
        if len(examined) > MAX_OVERLAPS:
            raise too_many()
    return tuple(dict.fromkeys(notes))


class _Question:
    """Whether the gates that meet in one overlap can be kept at once, everywhere in it."""

    def __init__(self, overlap: Overlap, gates: Sequence[Gate], signature: ModelSignature, naming: Naming) -> None:
        self.overlap = overlap
        self._naming = naming
        self._box = overlap.box
        self._gates = gates
        self._signature = signature
        self._cuts = tuple(cut for gate, region in overlap.members for cut in gates[gate].domain[region].cuts)
        self.vacuous = _cut_away(self._box, self._cuts)
        self.mentions_inputs = _mention_inputs(
            [clause for index in overlap.gate_indices() for clause in gates[index].requirement.clauses]
        )

    def examine(self) -> Iterator[str]:
        """A note, where answers may be refused. Raises NegativeAnswer as ``require_joint_satisfiability`` does."""
        indices = self.overlap.gate_indices()
        correcting = [index for index in indices if self._gates[index].action is not Action.REFUSE]
        verdict = self.ask(correcting)
        if verdict is not Satisfiability.PROVED:
            complaint = self.complaint(verdict, self.narrowed(correcting, verdict))
            raise NegativeAnswer(f"{complaint}; change the properties, or give one of them action refuse")
        everything = self.ask(indices)
        if everything is not Satisfiability.PROVED:
            yield f"{self.complaint(everything, indices)}; answers there may be refused"
        _require_fallbacks([self._gates[index] for index in indices], self._box)

    def ask(self, indices: Sequence[int]) -> Satisfiability:
        """Decide for the gates with these indices; none at all is satisfiable."""
        clauses = [clause for index in indices for clause in _with_margin(self._gates[index])]
        return _satisfiable(clauses, self._box, self._cuts, self._signature)

    def narrowed(self, indices: Sequence[int], verdict: Satisfiability) -> Sequence[int]:
        """The gates without those that can be left out and leave the verdict as it is: the ones to name."""
        kept = list(indices)
        for index in indices:
            fewer = [other for other in kept if other != index]
            if self.ask(fewer) is verdict:
                kept = fewer
        return kept

    def complaint(self, verdict: Satisfiability, indices: Sequence[int]) -> str:
        """The verdict in words: which properties, and where."""
        names = " and ".join(repr(self._gates[index].property_id) for index in indices)
        where = f"on {_in_words(self._box, self._naming)}"
        if verdict is Satisfiability.UNKNOWN:
            return f"{names} cannot be proved satisfiable {where}"
        if len(indices) == 1:
            return f"{names} contradicts itself {where}: no answer satisfies it"
        return f"{names} contradict each other {where}: no answer satisfies all of them"


def find_answer(parts: Sequence[tuple[Gate, Box]], signature: ModelSignature) -> tuple[Fraction, ...] | None:
    """One wire output row that satisfies each gate, margin included, for every input of the box beside it, or None.

    None where there is none, or none was found with few programs.
    """
    clauses = dict.fromkeys(
        tuple(Literal(literal.outputs, (), _worst_offset(literal, box), literal.strict) for literal in clause)
        for gate, box in parts
        for clause in _with_margin(gate)
    )
    return _Search(list(clauses), parts[0][1], signature, FEW_PROGRAMS).find()


def _with_margin(gate: Gate) -> list[Clause]:
    """What `project` aims at: every literal's value at least the gate's margin."""
    if gate.margin == 0:
        return list(gate.requirement.clauses)
    return [
        tuple(
            Literal(literal.outputs, literal.inputs, literal.offset - gate.margin, strict=False) for literal in clause
        )
        for clause in gate.requirement.clauses
    ]


def _in_words(box: Box, naming: Naming) -> str:
    shown = zip(naming.inputs[:MAX_BOUNDS_SHOWN], box.lower, box.upper, strict=False)
    bounds = [interval_text(named, low, high) for named, low, high in shown]
    return ", ".join(bounds + ["..."] * (len(box.lower) > MAX_BOUNDS_SHOWN))


def _require_fallbacks(meeting: Sequence[Gate], box: Box) -> None:
    for gate in meeting:
        if gate.fallback is None:
            continue
        for other in meeting:
            if not _all_hold(other.requirement.clauses, gate.fallback, box):
                what = "its own requirement" if other is gate else f"{other.property_id!r} where both apply"
                raise NegativeAnswer(
                    f"the fallback of {gate.property_id!r} is not proved to satisfy {what}: "
                    "choose a fallback that satisfies every property that it can meet"
                )


def _all_hold(clauses: Sequence[Clause], outputs: Sequence[Fraction], box: Box) -> bool:
    """Whether a constant output row satisfies every clause for all inputs in the box (sufficient test)."""
    return all(any(_holds(literal, outputs, box) for literal in clause) for clause in clauses)


def _holds(literal: Literal, outputs: Sequence[Fraction], box: Box) -> bool:
    value = _worst_offset(literal, box) + sum((a * outputs[index] for index, a in literal.outputs), Fraction(0))
    return value > 0 if literal.strict else value >= 0


def _worst_offset(literal: Literal, box: Box) -> Fraction:
    """The least value of ``inputs . x + offset`` over the box."""
    return literal.offset + sum(
        (a * (box.lower[index] if a > 0 else box.upper[index]) for index, a in literal.inputs), Fraction(0)
    )


def _satisfiable(
    clauses: Sequence[Clause], box: Box, cuts: Sequence[Literal], signature: ModelSignature
) -> Satisfiability:
    """Decide the part of a box that the cuts leave, halving it where the clauses mention inputs."""
    mentions_inputs = _mention_inputs(clauses)
    pending, verdict = [(box, 0)], Satisfiability.PROVED
    while pending:
        part, depth = pending.pop()
        if _cut_away(part, cuts) or _Search(clauses, part, signature).find() is not None:
            continue
        point = _midpoint(part)
        at_point = _Search(clauses, point, signature)
        outside = mentions_inputs and not all(_holds(cut, (), point) for cut in cuts)
        if at_point.find() is None and at_point.exhausted and not outside:
            return Satisfiability.CONTRADICTORY
        if not mentions_inputs or depth == MAX_HALVINGS:
            verdict = Satisfiability.UNKNOWN
        else:
            pending.extend((half, depth + 1) for half in _halves(part, clauses))
    return verdict


def _mention_inputs(clauses: Sequence[Clause]) -> bool:
    return any(literal.inputs for clause in clauses for literal in clause)


def _cut_away(box: Box, cuts: Sequence[Literal]) -> bool:
    """Whether the cuts are proved to leave nothing of the box."""
    inputs = sorted({index for cut in cuts for index, _ in cut.inputs})
    constraints = [_constraint(cut.inputs, inputs, cut.offset) for cut in cuts]
    for index in inputs:
        constraints.append(_constraint(((index, Fraction(1)),), inputs, -box.lower[index]))
        constraints.append(_constraint(((index, Fraction(-1)),), inputs, box.upper[index]))
    return bool(cuts) and maximize([Fraction(0)] * len(inputs), constraints).status is Status.INFEASIBLE


def _constraint(form: Terms, variables: Sequence[int], offset: Fraction, *slack: Fraction) -> Constraint:
    coefficients = dict(form)
    return Constraint((*(coefficients.get(index, Fraction(0)) for index in variables), *slack), offset)


def _midpoint(box: Box) -> Box:
    middle = tuple((low + high) / 2 for low, high in zip(box.lower, box.upper, strict=True))
    return Box(middle, middle)


def _halves(box: Box, clauses: Sequence[Clause]) -> tuple[Box, Box]:
    """Split the input along which the clauses' literals vary most."""
    spread: dict[int, Fraction] = {}
    for literal in (literal for clause in clauses for literal in clause):
        for index, a in literal.inputs:
            spread[index] = max(spread.get(index, Fraction(0)), abs(a) * (box.upper[index] - box.lower[index]))
    widest = max(sorted(spread), key=lambda index: spread[index])
    middle = (box.lower[widest] + box.upper[widest]) / 2
    below = Box(box.lower, tuple(middle if index == widest else high for index, high in enumerate(box.upper)))
    above = Box(tuple(middle if index == widest else low for index, low in enumerate(box.lower)), box.upper)
    return below, above


class _Search:
    """Depth first over the choice of one literal per clause; each choice is one linear program.

    Outputs range over the finite values of their wire datatypes. ``exhausted`` after :meth:`find` gave None
    means that every choice was refuted *in real arithmetic*: no answer at all satisfies.
    """

    def __init__(
        self, clauses: Sequence[Clause], box: Box, signature: ModelSignature, programs: int = MAX_PROGRAMS
    ) -> None:
        self._box = box
        self._clauses = sorted(clauses, key=len)
        self._datatypes = signature.output_datatypes()
        mentioned = {index for clause in clauses for literal in clause for index, _ in literal.outputs}
        self._outputs = sorted(mentioned)
        self._programs_left = programs
        self.exhausted = True

    def find(self) -> tuple[Fraction, ...] | None:
        """A whole output row that satisfies on the wire for every input of the box, or None."""
        # A clause of one literal leaves no choice: all of these stand in the first program already.
        return self._extend(tuple(clause[0] for clause in self._clauses if len(clause) == 1))

    def _extend(self, chosen: tuple[Literal, ...]) -> tuple[Fraction, ...] | None:
        point = self._solve(chosen)
        if point is None:
            return None
        unsatisfied = next(
            (c for c in self._clauses if not any(_holds(literal, point, self._box) for literal in c)), None
        )
        if unsatisfied is None:
            return self._on_the_wire(point)
        for literal in unsatisfied:
            found = self._extend((*chosen, literal))
            if found is not None:
                return found
        return None

    def _on_the_wire(self, point: tuple[Fraction, ...]) -> tuple[Fraction, ...] | None:
        """The point rounded to the wire datatypes, where that still satisfies; a failure leaves the question open."""
        rounded = tuple(
            Fraction(round_to_datatype(value, kind)) for value, kind in zip(point, self._datatypes, strict=True)
        )
        if _all_hold(self._clauses, rounded, self._box):
            return rounded
        self.exhausted = False
        return None

    def _solve(self, chosen: tuple[Literal, ...]) -> tuple[Fraction, ...] | None:
        """A point inside the chosen literals, as a whole output row, or None where there is none.

        The farthest inside all of them, so that it survives rounding; where that is on the boundary, the
        farthest inside the strict ones.
        """
        strict = [literal.strict for literal in chosen]
        depth, point = self._deepest(chosen, [True] * len(chosen))
        if depth == 0 and any(strict):
            depth, point = self._deepest(chosen, strict)
        if depth is None or depth < 0 or (depth == 0 and any(strict)):
            return None
        values = dict(zip(self._outputs, point, strict=True))
        return tuple(values.get(index, Fraction(0)) for index in range(len(self._datatypes)))

    def _deepest(
        self, chosen: Sequence[Literal], counted: Sequence[bool]
    ) -> tuple[Fraction | None, tuple[Fraction, ...]]:
        """The largest d <= 1 with every counted literal's value >= d and every other's >= 0, and a point with it."""
        if self._programs_left == 0:
            self.exhausted = False
            return None, ()
        self._programs_left -= 1
        constraints = [
            _constraint(literal.outputs, self._outputs, _worst_offset(literal, self._box), Fraction(-int(deep)))
            for literal, deep in zip(chosen, counted, strict=True)
        ]
        for index in self._outputs:
            smallest = Fraction(smallest_finite(self._datatypes[index]))
            largest = Fraction(largest_finite(self._datatypes[index]))
            constraints.append(_constraint(((index, Fraction(1)),), self._outputs, -smallest, Fraction(0)))
            constraints.append(_constraint(((index, Fraction(-1)),), self._outputs, largest, Fraction(0)))
        constraints.append(_constraint((), self._outputs, Fraction(1), Fraction(-1)))
        solution = maximize([Fraction(0)] * len(self._outputs) + [Fraction(1)], constraints)
        if solution.status is Status.GAVE_UP:
            self.exhausted = False
        return solution.value, solution.point[:-1] if solution.point else ()
