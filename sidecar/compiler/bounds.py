"""Sound bounds of a requirement's literals over many boxes at once, by backward linear propagation.

For every box: interval bounds of each stage's pre-activations, computed from the already tightened stage before;
a backward pass, lower and upper, for those neurons that intervals leave unstable; at the end a backward pass for each
literal, which gives a lower and an upper bound and the linear lower form in the inputs. Relaxations are
:mod:`sidecar.compiler.relaxation`'s, the perturbations ``E`` of pre-activations :mod:`sidecar.compiler.rounding`'s.

Soundness. Every bound holds for all *trajectories* from the box: the network's values in real arithmetic for each
point, and its values in each evaluation that the declared arithmetic allows for each wire-representable point. By
induction over the stages: the stage's inputs are bounded by what is proved of the stage before, so by
``rounding`` each trajectory satisfies ``z = W h + b + e`` with ``|e| <= E``, and what is computed below is a bound for
every such ``e``. A phase inherited from an enclosing box speaks about a larger set of trajectories, so it holds too.

Our own rounding. A row ``y >= A h + k`` is carried backward as ``A relu(z) >= Q z + t`` (one product per coefficient;
``t`` rounded safely, see ``relaxation``) and ``Q z >= (Q W) h + Q b - |Q| E``. Multiplied out, a bound is a sum of
monomials: coefficient, slopes, weights, then a bias or an input; at most ``n`` roundings fall on each, whatever the
order in which BLAS adds, so the computed sum is off by at most ``gamma64(n)`` times the sum of magnitudes. What
enters at a stage has magnitude at most ``|Q| (|W| m + |b|)`` with ``|h| <= m``, and ``E`` contains ``slack`` times that
(``slack >= 4 gamma64(n)``), which also pays for rounding ``Q`` itself (``|z| <= |W| m + |b| + E``) and for rounding a
literal's output coefficients (``|y|`` likewise). Terms ``- |Q| E`` and ``t`` are of one sign and inflated, so rounding
cannot make them too small. The last sum, over the box, is charged ``slack`` times ``|A| |x|``, a literal's own input
part and offset ``slack`` times their magnitudes, underflow :data:`~sidecar.compiler.rounding.TINY`.

A box in which anything overflowed, or is not a number, has bounds of minus and plus infinity and no phases: unknown,
never proved.
"""

import dataclasses
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.literal_rows import Flags, LiteralRows, literal_rows
from sidecar.compiler.relaxation import Relaxation, relax
from sidecar.compiler.rounding import INFLATE, TINY, Stage, Staged, staged
from sidecar.gates.values import Requirement
from sidecar.network.products import product
from sidecar.network.values import Network

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

_BLOCK: Final = 12_000
"""Values of one array in a block of rows that is carried backward at once: small enough (96 KB) for the
processor's cache and for memory to be reused rather than mapped anew, which page faults make several times slower."""

Phases: TypeAlias = npt.NDArray[np.int8]
"""Axes (box, hidden neuron), stages one after the other: 1 active, -1 inactive, 0 not known."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A network and a requirement, made ready to bound boxes.

    Args:
        staged: the network's stages. rows: the requirement's literals.
        signed: the rows' output parts as they stand, then negated: (2 literal, output).
    """

    staged: Staged
    rows: LiteralRows
    signed: Floats

    @property
    def hidden(self) -> int:
        """Number of hidden neurons."""
        return sum(len(stage.bias) for stage in self.staged.stages[:-1])

    @property
    def widest(self) -> int:
        """The largest number of values in a layer, the input included."""
        stages = self.staged.stages
        widest: int = max(stages[0].weight.shape[1], *(len(stage.bias) for stage in stages))
        return widest


@dataclasses.dataclass(frozen=True, eq=False)
class Bounds:
    """What is proved of the literals over each box.

    Args:
        lower, upper: float64 (box, literal); infinite where nothing is known.
        slope: float64 (box, literal, input). constant: float64 (box, literal). In the box the literal's value is at
            least ``slope . x + constant``, rounding of all but that last evaluation included; the constant is not
            finite where nothing is known.
        phases: (box, hidden neuron), to be inherited by parts of the box.
    """

    lower: Floats
    upper: Floats
    slope: Floats
    constant: Floats
    phases: Phases

    def at(self, chosen: Flags) -> "Bounds":
        """The bounds of some boxes."""
        return Bounds(
            self.lower[chosen], self.upper[chosen], self.slope[chosen], self.constant[chosen], self.phases[chosen]
        )


def prepare(network: Network, requirement: Requirement, arithmetic: Arithmetic) -> Prepared:
    """Everything about bounding that does not depend on a box. Raises InputError as ``staged`` does."""
    rows = literal_rows(requirement, network.signature.input_size, network.signature.output_size)
    return Prepared(staged(network, arithmetic), rows, np.concatenate([rows.outputs, -rows.outputs]))


def bound(prepared: Prepared, lower: Floats, upper: Floats, phases: Phases) -> Bounds:
    """Bounds over the boxes ``[lower, upper]``, float64 (box, input), finite.

    ``phases`` (box, hidden neuron) is what was proved for boxes that enclose these; zeros where nothing is known.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _bound(prepared, lower, upper, phases)[0]


def bound_again(prepared: Prepared, lower: Floats, upper: Floats, phases: Phases) -> Bounds:
    """As ``bound``, with a second form of each literal where that is better.

    Its lower relaxations are exact at the corner to which the strongest literal's first form points: there the first
    bound is worst, and any slopes in [0, 1] are sound.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        first, trace, error, known = _bound(prepared, lower, upper, phases)
        strongest = first.lower.argmax(axis=1)[:, None, None]
        slope = np.take_along_axis(first.slope, strongest, axis=1)[:, 0]
        exact = trace.exact_at(np.where(slope > 0.0, lower, upper))
        second = _literals(prepared, exact, error, known, first.phases)
    better = second.lower > first.lower
    return dataclasses.replace(
        first,
        lower=np.where(better, second.lower, first.lower),
        slope=np.where(better[:, :, None], second.slope, first.slope),
        constant=np.where(better, second.constant, first.constant),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Trace:
    """What is known of the stages passed so far, for a backward pass to the input.

    Args:
        lower, upper: the boxes. slack: see ``Staged``.
        stages, errors, relaxations: the stages passed, their ``E`` (box, neuron) and the ReLUs after them.
    """

    lower: Floats
    upper: Floats
    slack: float
    stages: list[Stage]
    errors: list[Floats]
    relaxations: list[Relaxation]

    def exact_at(self, points: Floats) -> "_Trace":
        """The same with lower relaxations that are exact at a point (box, input) of each box."""
        hidden, relaxations = points, []
        for stage, relaxation in zip(self.stages, self.relaxations, strict=True):
            values = product(hidden, stage.weight.T) + stage.bias
            active = (values > 0.0) | (relaxation.upper_shift == 0.0) & (relaxation.lower_slope > 0.0)
            dead = (relaxation.upper_shift == 0.0) & (relaxation.lower_slope == 0.0)
            relaxations.append(dataclasses.replace(relaxation, lower_slope=(active & ~dead).astype(np.float64)))
            hidden = np.maximum(values, 0.0)
        return dataclasses.replace(self, relaxations=relaxations)

    def backward(self, form: Floats, constant: Floats, box: Indices) -> tuple[Floats, Floats]:
        """A linear form in the last ReLU's results (row, neuron) as a lower form in the inputs (row, input)."""
        rows = max(1, _BLOCK // form.shape[1])
        blocks = [slice(start, start + rows) for start in range(0, max(len(form), 1), rows)]
        passed = [self._backward(form[block], constant[block], box[block]) for block in blocks]
        return np.concatenate([form for form, _ in passed]), np.concatenate([constant for _, constant in passed])

    def _backward(self, form: Floats, constant: Floats, box: Indices) -> tuple[Floats, Floats]:
        for stage, error, relaxation in zip(
            reversed(self.stages), reversed(self.errors), reversed(self.relaxations), strict=True
        ):
            form, shift = relaxation.backward(form, box)
            charge = np.einsum("rj,rj->r", np.abs(form), error.take(box, axis=0))
            passed = product(form, stage.weight_and_bias)
            form, constant = passed[:, :-1], constant + shift + passed[:, -1] - charge
        return form, constant


def _bound(prepared: Prepared, lower: Floats, upper: Floats, phases: Phases) -> tuple[Bounds, _Trace, Floats, Flags]:
    trace = _Trace(lower, upper, prepared.staged.slack, [], [], [])
    known = np.ones(len(lower), dtype=np.bool_)
    found = np.zeros_like(phases)
    inner_lower, inner_upper, start = lower, upper, 0
    for stage in prepared.staged.stages[:-1]:
        here = slice(start, start := start + len(stage.bias))
        error = stage.error(_magnitude(inner_lower, inner_upper))
        z_lower, z_upper = _interval(stage, error, inner_lower, inner_upper)
        _inherit(z_lower, z_upper, phases[:, here])
        if trace.stages:
            _tighten(trace, stage, error, z_lower, z_upper)
        known &= np.isfinite(z_lower).all(axis=1) & np.isfinite(z_upper).all(axis=1)
        found[:, here] = np.where(z_lower >= 0.0, 1, np.where(z_upper <= 0.0, -1, 0))
        trace.stages.append(stage)
        trace.errors.append(error)
        trace.relaxations.append(relax(z_lower, z_upper))
        inner_lower, inner_upper = np.maximum(z_lower, 0.0), np.maximum(z_upper, 0.0)
    error = prepared.staged.stages[-1].error(_magnitude(inner_lower, inner_upper))
    known &= np.isfinite(error).all(axis=1)
    return _literals(prepared, trace, error, known, found), trace, error, known


def _magnitude(lower: Floats, upper: Floats) -> Floats:
    return np.maximum(np.abs(lower), np.abs(upper))


def _interval(stage: Stage, error: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Bounds of the stage's result for inputs in ``[lower, upper]``, ``E`` included."""
    centre = product((lower + upper) * 0.5, stage.weight.T) + stage.bias
    spread = product((upper - lower) * 0.5, stage.magnitude.T) + error
    return centre - spread, centre + spread


def _inherit(z_lower: Floats, z_upper: Floats, phases: Phases) -> None:
    """Cut bounds, in place, by phases that an enclosing box has proved."""
    np.maximum(z_lower, 0.0, out=z_lower, where=phases > 0)
    np.minimum(z_upper, 0.0, out=z_upper, where=phases < 0)


def _tighten(trace: _Trace, stage: Stage, error: Floats, z_lower: Floats, z_upper: Floats) -> None:
    """Improve, in place, the bounds of neurons that are not stable yet, by a backward pass for each."""
    box, neuron = np.nonzero((z_lower < 0.0) & (z_upper > 0.0))
    count, both = len(box), np.concatenate([box, box])
    weight, bias, charge = stage.weight[neuron], stage.bias[neuron], error[box, neuron]
    form, constant = trace.backward(
        np.concatenate([weight, -weight]), np.concatenate([bias - charge, -bias - charge]), both
    )
    least = lowest(form, constant, trace.lower[both], trace.upper[both], trace.slack)
    z_lower[box, neuron] = np.maximum(z_lower[box, neuron], least[:count])
    z_upper[box, neuron] = np.minimum(z_upper[box, neuron], -least[count:])


def lowest(form: Floats, constant: Floats, lower: Floats, upper: Floats, slack: float) -> Floats:
    """A lower bound of ``form . x + constant`` over the boxes ``[lower, upper]``, its own rounding charged.

    ``form``, ``lower``, ``upper`` have axes (..., input) and broadcast; ``constant`` and the result have (...).
    """
    least = (np.maximum(form, 0.0) * lower + np.minimum(form, 0.0) * upper).sum(axis=-1)
    charge = (np.abs(form) * _magnitude(lower, upper)).sum(axis=-1) * (slack * INFLATE)
    return np.asarray(least + constant - charge - TINY)


def _literals(prepared: Prepared, trace: _Trace, error: Floats, known: Flags, phases: Phases) -> Bounds:
    """The last pass: each literal as it stands and negated, for every box."""
    rows, last, boxes = prepared.rows, prepared.staged.stages[-1], len(known)
    signed, count = prepared.signed, len(prepared.signed)
    form = np.tile(signed @ last.weight, (boxes, 1))
    constant = (signed @ last.bias - error @ np.abs(signed).T).reshape(-1)
    form, constant = trace.backward(form, constant, np.repeat(np.arange(boxes), count))
    own_inputs, own_offset = np.concatenate([rows.inputs, -rows.inputs]), np.concatenate([rows.offset, -rows.offset])
    own = np.abs(own_offset) + _magnitude(trace.lower, trace.upper) @ np.abs(own_inputs).T
    form = form.reshape(boxes, count, trace.lower.shape[1]) + own_inputs
    constant = constant.reshape(boxes, count) + own_offset - own * (trace.slack * INFLATE)
    least = lowest(form, constant, trace.lower[:, None, :], trace.upper[:, None, :], trace.slack)
    least = np.where(known[:, None] & np.isfinite(least), least, -np.inf)
    half = count // 2
    return Bounds(
        lower=least[:, :half],
        upper=-least[:, half:],
        slope=form[:, :half],
        constant=np.where(known[:, None], constant[:, :half], -np.inf),
        phases=np.where(known[:, None], phases, 0).astype(np.int8),
    )
