"""With every digest computed anew: what makes a claim false is refused, and what leaves the claims true is accepted."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import pytest

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.values import Arithmetic, PropertySource
from sidecar.certificate.values import PIECE, Answer, Divide
from sidecar.errors import BundleError, InputError, NegativeAnswer
from sidecar.gates.values import Action, Box, Literal, Mode, Norm, Region, Requirement
from sidecar.properties.values import Severity
from sidecar.tensors import TensorSpec
from tests.unit.certificate.conftest import Sealed, write_model

Mutation: TypeAlias = Callable[[Sealed], Sealed]
REFUSALS = (NegativeAnswer, BundleError, InputError)


def _first_leaf(tree: CoverageTree, label: Label) -> int:
    return int(np.flatnonzero((tree.feature == LEAF) & (tree.label == label))[0])


def _relabelled(before: Label, after: Label) -> Callable[[CoverageTree], CoverageTree]:
    def change(tree: CoverageTree) -> CoverageTree:
        label = tree.label.copy()
        label[_first_leaf(tree, before)] = after
        return dataclasses.replace(tree, label=label)

    return change


def _all_relabelled(after: Label) -> Callable[[CoverageTree], CoverageTree]:
    def change(tree: CoverageTree) -> CoverageTree:
        return dataclasses.replace(tree, label=np.where(tree.feature == LEAF, np.uint8(after), tree.label))

    return change


def _boxes(tree: CoverageTree) -> np.ndarray:
    """(node, feature, end) in the unit square."""
    boxes = np.tile([0.0, 1.0], (len(tree.feature), 2, 1))
    for node in np.flatnonzero(tree.feature != LEAF):
        for child in (tree.left[node], tree.right[node]):
            boxes[child] = boxes[node]
        boxes[tree.left[node], tree.feature[node], 1] = tree.threshold[node]
        boxes[tree.right[node], tree.feature[node], 0] = tree.threshold[node]
    return boxes


def _last_split(tree: CoverageTree) -> int:
    """The largest inner node with a silent leaf on the left and one on the right that is not."""
    inner = np.flatnonzero(tree.feature != LEAF)
    left, right = tree.label[tree.left[inner]], tree.label[tree.right[inner]]
    fitting = inner[(left == Label.SILENT) & np.isin(right, (Label.OPEN, Label.VIOLATING))]
    return int(fitting[0])


def _exchanged(tree: CoverageTree) -> CoverageTree:
    """Two sides of a split, which are leaves."""
    node, label = _last_split(tree), tree.label.copy()
    label[tree.left[node]], label[tree.right[node]] = tree.label[tree.right[node]], tree.label[tree.left[node]]
    return dataclasses.replace(tree, label=label)


def _moved_threshold(tree: CoverageTree) -> CoverageTree:
    """So far that next to nothing is left of the right side."""
    node, threshold = _last_split(tree), tree.threshold.copy()
    threshold[node] += 0.99 * (_boxes(tree)[node, tree.feature[node], 1] - threshold[node])
    return dataclasses.replace(tree, threshold=threshold)


def _other_feature(tree: CoverageTree) -> CoverageTree:
    node, feature, threshold = _last_split(tree), tree.feature.copy(), tree.threshold.copy()
    feature[node] = 1 - feature[node]
    threshold[node] = _boxes(tree)[node, feature[node]].mean()
    return dataclasses.replace(tree, feature=feature, threshold=threshold)


def _without_a_leaf(tree: CoverageTree) -> CoverageTree:
    keep = np.arange(len(tree.feature) - 1)
    return dataclasses.replace(tree, **{name: getattr(tree, name)[keep] for name in ("feature", "threshold", "label")})


def _literal(change: Callable[[Literal], Literal], gate: int = 1) -> Mutation:
    def mutate(sealed: Sealed) -> Sealed:
        (first, *rest), *others = sealed.bundle.gates[gate].requirement.clauses
        return sealed.with_gate(gate, requirement=Requirement(((change(first), *rest), *others)))

    return mutate


def _region(change: Callable[[Region], Region], gate: int = 0) -> Mutation:
    return lambda sealed: sealed.with_gate(gate, domain=(change(sealed.bundle.gates[gate].domain[0]),))


def _box(change: Callable[[Fraction], Fraction]) -> Mutation:
    def widened(region: Region) -> Region:
        return dataclasses.replace(
            region, box=Box(region.box.lower, (change(region.box.upper[0]), *region.box.upper[1:]))
        )

    return _region(widened)


def _vector(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    return lambda sealed: sealed.with_vectors(**{name: change(getattr(sealed.bundle.vectors, name).copy())})


def _record(**changes: object) -> Mutation:
    def mutate(sealed: Sealed) -> Sealed:
        first, *rest = sealed.bundle.manifest.properties
        return sealed.with_manifest(properties=(dataclasses.replace(first, **changes), *rest))

    return mutate


def _trace(**changes: object) -> Mutation:
    return lambda sealed: _record(trace=dataclasses.replace(sealed.bundle.manifest.properties[0].trace, **changes))(
        sealed
    )


def _source(before: bytes, after: bytes) -> Mutation:
    def mutate(sealed: Sealed) -> Sealed:
        (source,) = sealed.bundle.sources
        assert before in source.content
        return sealed.with_bundle(sources=(PropertySource(source.origin, source.content.replace(before, after)),))

    return mutate


def _signature(**changes: object) -> Mutation:
    def mutate(sealed: Sealed) -> Sealed:
        signature = sealed.bundle.manifest.signature
        return sealed.with_manifest(signature=dataclasses.replace(signature, **changes))

    return mutate


def _steps(change: Callable[[list], list]) -> Mutation:
    return lambda sealed: sealed.with_certificate(meeting=tuple(change(list(sealed.certificate.meeting))))


def _first(steps: list, kind: type) -> int:
    return next(number for number, step in enumerate(steps) if isinstance(step, kind))


def _changed_answer(steps: list) -> list:
    place = _first(steps, Answer)
    steps[place] = Answer((Fraction(-100), Fraction(-100), Fraction(100)))
    return steps


def _answer_off_the_wire(steps: list) -> list:
    place = _first(steps, Answer)
    steps[place] = Answer(tuple(value + Fraction(1, 3**60) for value in steps[place].outputs))
    return steps


def _moved_division(steps: list) -> list:
    steps[0] = Divide(steps[0].feature, steps[0].threshold - Fraction(1, 2))
    return steps


def _proofs(name: str, change: Callable[[np.ndarray], np.ndarray], gate: int = 1) -> Mutation:
    return lambda sealed: sealed.with_proofs(
        gate, **{name: change(getattr(sealed.certificate.leaves[gate][0], name).copy())}
    )


def _set(place: object, value: object) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


def _other_model(change: float) -> Mutation:
    return lambda sealed: dataclasses.replace(
        sealed, model=write_model(sealed.model.with_name(f"other{change}.onnx"), change)
    )


def _other_model_with_its_digest(change: float) -> Mutation:
    """Somebody trains the model on and only signs the papers anew."""

    def mutate(sealed: Sealed) -> Sealed:
        other = _other_model(change)(sealed)
        digest = __import__("hashlib").sha256(other.model.read_bytes()).hexdigest()
        return other.with_manifest(model_digest=digest).with_certificate(model_digest=digest)

    return mutate


FALSE: dict[str, tuple[Mutation, str]] = {
    # coverage
    "an open leaf said to be silent": (
        lambda s: s.with_tree(1, _relabelled(Label.OPEN, Label.SILENT)),
        "'never-far-out', region 0",
    ),
    "an open leaf said to be violating": (
        lambda s: s.with_tree(1, _relabelled(Label.OPEN, Label.VIOLATING)),
        "'never-far-out', region 0",
    ),
    "a silent leaf said to be violating": (
        lambda s: s.with_tree(1, _relabelled(Label.SILENT, Label.VIOLATING)),
        "'never-far-out', region 0, leaf [0-9]+, violating: not proved on the box",
    ),
    "a violating leaf said to be silent": (
        lambda s: s.with_tree(1, _relabelled(Label.VIOLATING, Label.SILENT)),
        "'never-far-out', region 0, leaf [0-9]+, silent: not proved on the box",
    ),
    "everything said to be silent, with hints that fit": (
        lambda s: s.with_tree(1, _all_relabelled(Label.SILENT)).with_proofs(
            1,
            splits=np.full((s.bundle.coverage[1][0].feature == LEAF).sum(), PIECE, np.int32),
            thresholds=np.zeros(0),
            weights=np.full(((s.bundle.coverage[1][0].feature == LEAF).sum(), 2), 255, np.uint8),
            clause=np.full((s.bundle.coverage[1][0].feature == LEAF).sum(), PIECE, np.int32),
        ),
        "'never-far-out', region 0, leaf [0-9]+, silent: not proved on the box",
    ),
    "a threshold moved": (
        lambda s: s.with_tree(1, _moved_threshold),
        "'never-far-out', region 0(, leaf|: a leaf is divided)",
    ),
    "another feature split": (lambda s: s.with_tree(1, _other_feature), "never-far-out"),
    "two sides exchanged": (
        lambda s: s.with_tree(1, _exchanged),
        "'never-far-out', region 0(, leaf|: a leaf is divided)",
    ),
    "a leaf missing": (
        lambda s: s.with_bundle(
            coverage=(s.bundle.coverage[0], (_without_a_leaf(s.bundle.coverage[1][0]),), *s.bundle.coverage[2:])
        ),
        "never-far-out.*nodes, expected",
    ),
    "a volume made larger": (
        lambda s: s.with_bundle(
            coverage=(
                s.bundle.coverage[0],
                (dataclasses.replace(s.bundle.coverage[1][0], volume=np.array([0.0, 1.0, 0.0, 0.0])),),
                *s.bundle.coverage[2:],
            )
        ),
        "never-far-out.*volumes",
    ),
    "two gates' trees exchanged": (
        lambda s: s.with_bundle(
            coverage=(s.bundle.coverage[0], s.bundle.coverage[2], s.bundle.coverage[1], s.bundle.coverage[3])
        ).with_certificate(
            leaves=(s.certificate.leaves[0], s.certificate.leaves[2], s.certificate.leaves[1], s.certificate.leaves[3])
        ),
        "never-far-out|brakes-harder",
    ),
    # gates
    "a box made wider": (_box(lambda bound: bound + Fraction(1, 8)), "'brake-when-close'"),
    "a box made narrower": (_box(lambda bound: bound - Fraction(1, 8)), "'brake-when-close'"),
    "a cut dropped": (_region(lambda region: Region(region.box)), "'brake-when-close': domain"),
    "a cut moved": (
        _region(lambda r: Region(r.box, (dataclasses.replace(r.cuts[0], offset=r.cuts[0].offset + 1),))),
        "'brake-when-close': domain",
    ),
    "a coefficient changed": (
        _literal(lambda lit: dataclasses.replace(lit, outputs=((2, Fraction(-2)),))),
        "'never-far-out': requirement",
    ),
    "an input's coefficient added": (
        _literal(lambda lit: dataclasses.replace(lit, inputs=((0, Fraction(1)),))),
        "'never-far-out': requirement",
    ),
    "an offset changed": (
        _literal(lambda lit: dataclasses.replace(lit, offset=lit.offset + Fraction(1, 10**9))),
        "'never-far-out': requirement",
    ),
    "strictness flipped": (
        _literal(lambda lit: dataclasses.replace(lit, strict=not lit.strict)),
        "'never-far-out': requirement",
    ),
    "a literal dropped": (
        lambda s: s.with_gate(1, requirement=Requirement((s.bundle.gates[1].requirement.clauses[0][:1],))),
        "'never-far-out': requirement",
    ),
    "a clause dropped": (lambda s: s.with_gate(1, requirement=Requirement(())), "'never-far-out'"),
    "a margin changed": (lambda s: s.with_gate(1, margin=Fraction(0)), "never-far-out': margin|self-test"),
    "a norm changed": (lambda s: s.with_gate(1, norm=Norm.LINF), "never-far-out': norm|self-test"),
    "an action changed": (lambda s: s.with_gate(1, action=Action.REFUSE), "never-far-out': action"),
    "a fallback changed": (
        lambda s: s.with_gate(0, fallback=(Fraction(0), Fraction(0), Fraction(1))),
        "'brake-when-close': fallback",
    ),
    "an id changed": (
        lambda s: _trace(property_id="another")(s).with_gate(0, property_id="another"),
        "'brake-when-close': its record",
    ),
    # manifest
    "a mode changed": (_record(mode=Mode.SHADOW), "'brake-when-close': its record"),
    "a hazard changed": (_trace(hazard="none"), "'brake-when-close': its record"),
    "a severity changed": (_trace(severity=Severity.INFO), "'brake-when-close': its record"),
    "the arithmetic changed": (lambda s: s.with_manifest(arithmetic=Arithmetic.IEEE64), "arithmetic"),
    "the arithmetic changed in both": (
        lambda s: s.with_manifest(arithmetic=Arithmetic.IEEE64).with_certificate(arithmetic=Arithmetic.IEEE64),
        "arithmetic ieee64",
    ),
    "the arithmetic made coarser in both": (
        lambda s: s.with_manifest(arithmetic=Arithmetic.BF16).with_certificate(arithmetic=Arithmetic.BF16),
        "is not proved|self-test vector",
    ),
    "the model's digest changed": (lambda s: s.with_manifest(model_digest="0" * 64), "model digest"),
    "a tensor's name changed": (
        lambda s: _signature(inputs=(dataclasses.replace(s.bundle.manifest.signature.inputs[0], name="z"),))(s),
        "tensor 'z'|signature|'x'",
    ),
    "the batch axis taken away": (_signature(batch_axis=None), "signature"),
    "a claim that nothing was proved": (
        lambda s: s.with_manifest(options=(("proof", "none"),)),
        "nothing is proved of its model",
    ),
    "an action said to have replaced the properties' own": (
        lambda s: s.with_manifest(options=(*s.bundle.manifest.options, ("action", "refuse"))),
        "action",
    ),
    # sources
    "a requirement changed in the property file": (_source(b"<= 0.6", b"<= 0.7"), "'never-far-out': requirement"),
    "a domain changed in the property file": (_source(b"speed >= 0.5", b"speed >= 0.25"), "'brake-when-close': domain"),
    "a property left out of the property file": (
        _source(b"  - id: go-when-far\n    when: speed >= 0.875 and gap >= 0.875\n    require: best == go\n", b""),
        "number of properties: got 4, expected 3",
    ),
    "a property file that cannot be read": (_source(b"properties:", b"properties: ["), "property file cannot be read"),
    "no property file": (lambda s: s.with_bundle(sources=()), "number of properties: got 4, expected 0|the signature"),
    # vectors
    "a bound narrowed": (
        lambda s: s.with_vectors(lower=s.bundle.vectors.outputs, upper=s.bundle.vectors.outputs),
        "self-test vector 0, output 0",
    ),
    "one bound narrowed": (
        lambda s: (
            _vector("upper", _set((3, 1), s.bundle.vectors.outputs[3, 1] * 0.99 + a * 0.01))(s)
            if (a := s.bundle.vectors.upper[3, 1])
            else s
        ),
        "self-test vector 3, output 1",
    ),
    "an output that the model does not give": (
        lambda s: s.with_vectors(
            lower=_set((0, 0), -np.inf)(s.bundle.vectors.lower.copy()),
            upper=_set((0, 0), np.inf)(s.bundle.vectors.upper.copy()),
            outputs=_set((0, 0), 50.0)(s.bundle.vectors.outputs.copy()),
            corrected=_set((0, 0), 50.0)(s.bundle.vectors.corrected.copy()),
        ),
        "self-test vector 0",
    ),
    "a verdict flipped": (
        lambda s: s.with_vectors(contained=np.ones_like(s.bundle.vectors.contained)),
        "self-test vector",
    ),
    "a correction changed": (
        _vector("corrected", lambda a: _set(int(np.flatnonzero((a != 0).any(axis=1))[0]), 0.5)(a)),
        "self-test vector",
    ),
    # certificate
    "another bundle's certificate": (_other_model_with_its_digest(0.5), "not proved|self-test vector"),
    "another model": (_other_model(2.0**-20), "the model file's digest"),
    "another model with its digest": (_other_model_with_its_digest(0.25), "not proved|self-test vector"),
    "another model's digest in the certificate": (
        lambda s: s.with_certificate(model_digest="0" * 64),
        "certificate's model digest",
    ),
    "another arithmetic in the certificate": (
        lambda s: s.with_certificate(arithmetic=Arithmetic.IEEE64),
        "certificate's arithmetic",
    ),
    "an answer changed": (_steps(_changed_answer), "step [0-9]+: the answer does not satisfy property"),
    "an answer that the wire cannot carry": (_steps(_answer_off_the_wire), "wire"),
    "an answer left out": (_steps(lambda steps: steps[:-1]), "have no proof"),
    "an answer too many": (_steps(lambda steps: [*steps, steps[-1]]), "more steps follow"),
    "no answer": (_steps(lambda _: []), "have no proof"),
    "a cell divided elsewhere": (_steps(_moved_division), "step [0-9]+"),
    "a hint dropped": (_proofs("splits", lambda splits: splits[:-1]), "'never-far-out', region 0"),
    "hints left out": (
        lambda s: s.with_proofs(
            1, weights=s.certificate.leaves[1][0].weights[:-1], clause=s.certificate.leaves[1][0].clause[:-1]
        ),
        "'never-far-out', region 0: hints for [0-9]+ pieces",
    ),
    "weights of nothing": (_proofs("weights", np.zeros_like), "silent: not proved"),
    "no such clause": (_proofs("clause", lambda clause: np.full_like(clause, 7)), "violating: not proved"),
    "a piece divided outside of itself": (_proofs("thresholds", lambda t: t + 10.0), "outside of itself"),
    "a piece divided along no feature": (
        _proofs("splits", lambda splits: np.where(splits == PIECE, splits, 9)),
        "divisions do not fit",
    ),
    "two gates' hints exchanged": (
        lambda s: s.with_certificate(leaves=tuple(reversed(s.certificate.leaves))),
        "region 0",
    ),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_mutant_that_makes_a_claim_false_is_refused(sealed: Sealed, name: str) -> None:
    mutation, message = FALSE[name]
    with pytest.raises(REFUSALS, match=message):
        mutation(sealed).checked()


TRUE: dict[str, Mutation] = {
    "nothing changed": lambda s: s,
    "the served name": lambda s: s.with_manifest(name="other"),
    "the revision": lambda s: s.with_manifest(revision=9),
    "the limits that are recorded": lambda s: s.with_manifest(options=(("max-regions", "1"),)),
    "a bound widened": lambda s: s.with_vectors(lower=s.bundle.vectors.lower - 1, upper=s.bundle.vectors.upper + 1),
    "a bound given up": lambda s: s.with_vectors(
        lower=np.full_like(s.bundle.vectors.lower, -np.inf), upper=np.full_like(s.bundle.vectors.upper, np.inf)
    ),
    "all leaves of a gate open": lambda s: s.with_tree(1, _all_relabelled(Label.OPEN)).with_proofs(
        1,
        splits=np.zeros(0, np.int32),
        thresholds=np.zeros(0),
        weights=np.zeros((0, 2), np.uint8),
        clause=np.zeros(0, np.int32),
    ),
    "another answer that satisfies": _steps(
        lambda steps: [Answer((step.outputs[0] * 2, *step.outputs[1:])) if number == 2 else step
                       for number, step in enumerate(steps)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_a_change_that_leaves_the_claims_true_is_accepted(sealed: Sealed, name: str) -> None:
    assert TRUE[name](sealed).checked().statements


def test_several_processes_find_what_one_does(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.certificate.processes.ALONE_PORTIONS", 0)
    assert sealed.checked(workers=2) == sealed.checked()
    with pytest.raises(NegativeAnswer, match="not proved"):
        FALSE["weights of nothing"][0](sealed).checked(workers=2)


def test_a_tensor_spec_is_compared_whole(sealed: Sealed) -> None:
    (spec,) = sealed.bundle.manifest.signature.inputs
    assert isinstance(spec, TensorSpec)
    with pytest.raises(REFUSALS):
        _signature(inputs=(dataclasses.replace(spec, row_shape=(1, 2)),))(sealed).checked()
