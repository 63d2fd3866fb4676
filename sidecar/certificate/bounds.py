"""Over a box of inputs: how small can a linear expression in a ReLU network's answers and inputs be?

Written for being read beside its argument; nothing is taken from the compiler, whose claims are judged with this.

**What is bounded.** A *stage* is a run of affine layers, ``z = A h + c`` taken together; between stages stands a ReLU.
A *trajectory* is what one evaluation computes for one input ``x``: ``h_0 = x``, ``z_k = A_k h_{k-1} + c_k + e_k``,
``h_k = max(z_k, 0)``, and the answer is the last ``z``. With ``e = 0`` it is real arithmetic. In the declared
arithmetic an evaluation, in whatever order it sums, with or without fused operations, with neighbouring affine layers
multiplied out or not, gives a sum of monomials (a weight of each layer, or a bias and the weights behind it, times one
``h``). Each is multiplied by factors ``1 + d``: at most ``N`` with ``|d| <= u``, for products and sums; and, where the
arithmetic keeps numbers in a coarser format than it adds up in, four in each of the run's ``n`` layers that compute
something, whose ``|d|`` add up to at most ``v``: a weight or bias is rounded to that format, what the weight is
multiplied with, the sum of products, and the layer's result. A product of ``1 + |d|`` is at most ``exp(s) <= 1 / (1 -
s)``, ``s`` being the sum of the ``|d|``. So with ``|h| <= m``, ``s = N u + n v <= 1/2`` and ``g(s) = s / (1 - s)``

    |e_k| <= g(s) (M m + C) + 10 (n + 1) tiny P        M, C: the same products of magnitudes

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1. Hardware that aligns a block of
addends to the largest and cuts off what lies below its 24 bits errs by at most ``2**-23`` of it for each addend, by
``2**-23`` of the block's result when that is cut off, and once more when it is an addend of the next block: along a
monomial as if each term had a ``d`` of ``3 * 2**-23`` at most. The second part is underflow: five times in a layer
(where those four are, and at the product) a number loses at most ``tiny``, and the monomial's other factors, even with
those below one left out, multiply to no more than ``P = max(1, m) * prod(largest row sum of max(1, |w|) over nonzero w,
bias included)``. Twice that pays for factors ``1 + d``, together at most ``1 / (1 - s) <= 2``; the one layer more for
products of such losses, since ``5 n n tiny < 1``: where ``v`` is not zero as long as ``n v <= 1/2``, else as long as
``n`` is below two million. ``tiny`` of an arithmetic whose float32 sums may flush to zero is more than ``2**20`` of
them lose so.

No number of a run exceeds ``Q`` in real arithmetic, which begins as ``max(1, m)`` and in each layer is multiplied by
``max(1, largest row sum of |w|)`` and added the largest ``|bias|``. So none exceeds ``2 Q`` and twice the underflow
above in the declared one. If ``Q`` and that underflow stay below ``limit``, at most half of the format's largest
number, nothing overflows; else ``e`` is not bounded, and nothing is proved.

**One step back.** Known is: the expression is at least ``p . z_k + t`` on every trajectory. Then it is at least
``(p A_k) . h_{k-1} + (t + p . c_k - |p| . E_k)`` where ``|e_k| <= E_k``. And ``h_{k-1} = max(z, 0)`` where ``l <= z
<= u`` is known: for any slope ``s`` in [0, 1]

    0 <= max(z, 0) - s z <= D(s) = max(-s l, (1 - s) u, 0)    (convex in z, so largest at an end; least at zero)

so ``r . h >= sum r s z - sum max(-r, 0) D(s)``, each coefficient with a slope of its own, and back we are at
``z_{k-1}``. After the first stage the expression stands in ``x``, over a box. That some number is at most something
is the same about its negation.

**Our own rounding** is charged where it happens. A step replaces ``p . z`` by what float64 makes of ``(p A) . h + p .
c``. Each computed coefficient differs from the exact one by a relative error of ``g64(w)`` times magnitudes (``w``
counts all of the step's roundings: products, sums, composing ``A``, rounding ``p`` itself, intervals), and what it is
multiplied with is a trajectory's value: ``h`` is at most ``m``, and ``z`` at most ``M m + C + E_k``. So all of a step's
errors together are at most ``|p| . g64(w) (M m + C + E_k)``: one more term in ``E_k``, whatever was done before or
after. (Its last part, below ``2**-30 E_k``, is paid for by ``GENEROUS``.) Nothing accumulates that is not charged. Sums
of charges are of one sign; ``GENEROUS`` makes up for their rounding, ``TINY`` for all underflow of ours (fewer
than ``2**60`` operations that lose ``2**-1075`` each and are multiplied by values below ``2**301``).

Whatever is infinite or not a number compares as not proved.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Arithmetic
from sidecar.errors import NegativeAnswer
from sidecar.network.values import Affine, Network, Relu
from sidecar.tensors import Datatype

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

GENEROUS: Final = 1.0 + 2.0**-20
TINY: Final = 2.0**-500
_OWN_UNIT: Final = 2.0**-53
_MOST_OPERATIONS: Final = 2**20
_MOST_BOXES: Final = 96
_BLOCK: Final = 2**18
"""Multiplications in one matrix product: fast in cache, and no more than BLAS does on one thread. Shared out among
threads such small products took ten times as long."""


class Declared(NamedTuple):
    """An arithmetic: its tensors' datatype, and ``u``, ``v``, ``tiny`` and ``limit`` as above."""

    datatype: Datatype
    unit: float
    kept: float
    tiny: float
    limit: float


DECLARED: Final[Mapping[Arithmetic, Declared]] = MappingProxyType(
    {
        # Every product and sum rounded to nearest in the tensors' own format.
        Arithmetic.IEEE32: Declared(Datatype.FP32, 2.0**-24, 0.0, 2.0**-150, 2.0**126),
        Arithmetic.IEEE64: Declared(Datatype.FP64, 2.0**-53, 0.0, 2.0**-1074, 2.0**300),
        # Operands of products keep 11 significant bits, rounded or cut off; all else is float32.
        Arithmetic.TF32: Declared(Datatype.FP32, 2.0**-21, 2 * 2.0**-10, 2.0**-100, 2.0**126),
        # Operands and results are rounded to nearest, to 8 or 11 significant bits; sums are float32.
        Arithmetic.BF16: Declared(Datatype.FP32, 2.0**-21, 4 * 2.0**-8, 2.0**-100, 2.0**126),
        Arithmetic.FP16: Declared(Datatype.FP32, 2.0**-21, 4 * 2.0**-11, 2.0**-24, 32_752.0),
        # Every product and sum is rounded, so that the layer's result is already.
        Arithmetic.IEEE16: Declared(Datatype.FP32, 2.0**-11, 3 * 2.0**-11, 2.0**-25, 32_752.0),
    }
)
_MOST_ROUNDED: Final = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """``z = weight @ h + bias + e`` with ``|e| <= slope @ m + offset + underflow * max(1, m)`` where ``|h| <= m``.

    Args:
        weight, slope: float64 (out, in). bias, offset: float64 (out,).
        peak, shift: ``Q = peak * max(1, m) + shift``, the underflow included. underflow: as above, a number.
    """

    weight: Floats
    bias: Floats
    slope: Floats
    offset: Floats
    peak: float
    shift: float
    underflow: float


@dataclasses.dataclass(frozen=True, eq=False)
class Staged:
    """A network in stages; ``own`` is the relative error ``g64(w)`` of one step of ours."""

    stages: tuple[Stage, ...]
    own: float
    limit: float

    @property
    def batch(self) -> int:
        """How many boxes are best enclosed at once, by the memory that it takes."""
        widest: int = max(max(stage.weight.shape) for stage in self.stages)
        return max(1, min(_MOST_BOXES, 2**22 // widest**2))

    def blocks(self, rows: int) -> list[slice]:
        """Portions in which so many rows, or none, are best taken back to the inputs."""
        step = max(1, _BLOCK // max(stage.weight.size for stage in self.stages))
        return [slice(start, start + step) for start in range(0, max(rows, 1), step)]


def staged(network: Network, arithmetic: Arithmetic, terms: int, care: float = 1.0) -> Staged:
    """The network's stages, for real arithmetic and for the declared one.

    Args:
        network: dense layers and ReLUs.
        arithmetic: declared.
        terms: how many numbers at most are added up to one coefficient of a row that will be bounded.
        care: factor on the charge for our own rounding. Who makes a certificate takes 3, so that what is proved
            there is proved wherever BLAS rounds otherwise.

    Raises:
        NegativeAnswer: the arithmetic is not about the model's datatypes, rounds too much, or a network of this kind is
            not understood.
    """
    declared, signature = DECLARED[arithmetic], network.signature
    if {*signature.input_datatypes(), *signature.output_datatypes()} != {declared.datatype}:
        raise NegativeAnswer(
            f"the declared arithmetic {arithmetic} is not that of the model's tensors ({declared.datatype})"
        )
    runs = _runs(network)
    operations = 64 + terms + sum(2 * sum(layer.weight.shape) + layer.operations for run in runs for layer in run)
    if operations > _MOST_OPERATIONS:
        raise NegativeAnswer(f"the network adds up {operations} terms, more than {_MOST_OPERATIONS}: not understood")
    own = care * _gamma(2 * operations * _OWN_UNIT)
    return Staged(tuple(_stage(run, declared, own) for run in runs), own, declared.limit)


def _gamma(total: float) -> float:
    """``g``. Raises NegativeAnswer where it is more than one, or the argument above does not hold."""
    if not total <= _MOST_ROUNDED:
        raise NegativeAnswer(f"one run of layers rounds by {total:.0%}, more than {_MOST_ROUNDED:.0%}: not understood")
    return total / (1.0 - total)


def _runs(network: Network) -> list[list[Affine]]:
    """The affine layers between ReLUs; an identity where there is none."""
    runs: list[list[Affine]] = [[]]
    width = network.signature.input_size
    for layer in network.layers:
        match layer:
            case Affine(weight=weight):
                runs[-1].append(layer)
                width = len(weight)
            case Relu():
                runs[-1] = runs[-1] or [_identity(width)]
                runs.append([])
            case _:
                assert_never(layer)
    runs[-1] = runs[-1] or [_identity(width)]
    return runs


def _identity(width: int) -> Affine:
    return Affine(np.eye(width), np.zeros(width), operations=0)


def _stage(run: list[Affine], declared: Declared, own: float) -> Stage:
    weight, bias = np.eye(run[0].weight.shape[1]), np.zeros(run[0].weight.shape[1])
    magnitude, constant, growth, peak, shift = weight, bias, 1.0, 1.0, 0.0
    for layer in run:
        later = np.abs(layer.weight)
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
        magnitude, constant = later @ magnitude, later @ constant + np.abs(layer.bias)
        both = np.column_stack([later, np.abs(layer.bias)])
        growth *= float(_at_least_one(both).sum(axis=1).max(initial=1.0))
        largest = float(later.sum(axis=1).max(initial=1.0))
        peak, shift = largest * peak, largest * shift + float(np.abs(layer.bias).max(initial=0.0))
    layers = max(1, sum(layer.operations > 0 for layer in run))
    rounded = sum(layer.operations for layer in run) * declared.unit + layers * declared.kept
    relative = (_gamma(rounded) + own) * GENEROUS**3
    underflow = 10.0 * (layers + 1) * declared.tiny * growth * GENEROUS**2
    return Stage(
        weight=weight,
        bias=bias,
        slope=relative * magnitude,
        offset=relative * constant + TINY,
        peak=peak * GENEROUS + underflow,
        shift=shift * GENEROUS,
        underflow=underflow,
    )


def _at_least_one(magnitudes: Floats) -> Floats:
    return np.where(magnitudes != 0.0, np.maximum(magnitudes, 1.0), 0.0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Relaxed:
    """A ReLU layer over many boxes, each array (box, neuron).

    A coefficient above zero passes with the slope ``rising``, one below with ``chord`` and its ``excess``,
    ``D(chord)``.
    """

    rising: Floats
    chord: Floats
    excess: Floats


def _relaxed(lower: Floats, upper: Floats) -> _Relaxed:
    """Slopes fit for ``lower <= z <= upper``; any from 0 to 1 would be sound, and no number proves nothing."""
    unstable = (lower < 0.0) & (upper > 0.0)
    active = np.where(lower >= 0.0, 1.0, 0.0)
    chord = np.where(unstable, upper / (upper - lower), active)
    excess = np.maximum(np.maximum(-chord * lower, (1.0 - chord) * upper), 0.0) * GENEROUS + TINY
    return _Relaxed(np.where(unstable & (upper > -lower), 1.0, active), chord, excess)


@dataclasses.dataclass(frozen=True, eq=False)
class Enclosure:
    """What is known of all trajectories from each of many boxes.

    Args:
        network: whose trajectories.
        lower, upper: float64 (box, input).
        errors: per stage, ``E`` (box, out).
        relaxed: per stage but the last, the ReLU behind it.
    """

    network: Staged
    lower: Floats
    upper: Floats
    errors: list[Floats]
    relaxed: list[_Relaxed]


def enclose(network: Staged, lower: Floats, upper: Floats) -> Enclosure:
    """Bounds of everything inside the network, stage by stage, each from those before; boxes (box, input), closed."""
    known = Enclosure(network, lower, upper, [], [])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for stage in network.stages[:-1]:
            known.errors.append(_error(network, stage, lower, upper))
            lower, upper = _neurons(known, stage, lower, upper)
            known.relaxed.append(_relaxed(lower, upper))
            lower, upper = np.maximum(lower, 0.0), np.maximum(upper, 0.0)
        known.errors.append(_error(network, network.stages[-1], lower, upper))
    return known


def _error(network: Staged, stage: Stage, lower: Floats, upper: Floats) -> Floats:
    magnitude = np.maximum(np.abs(lower), np.abs(upper))
    largest = np.maximum(magnitude.max(axis=1), 1.0)[:, None]
    error = magnitude @ stage.slope.T + stage.offset + stage.underflow * largest
    return np.where(stage.peak * largest + stage.shift <= network.limit, error, np.inf)


def _neurons(known: Enclosure, stage: Stage, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Bounds of a stage's ``z``: from the box of its inputs, and steps back where that leaves the sign open."""
    centre = (lower + upper) * 0.5 @ stage.weight.T + stage.bias
    spread = (upper - lower) * 0.5 @ np.abs(stage.weight).T + known.errors[-1]
    below, above = centre - spread, centre + spread
    if known.relaxed:
        box, neuron = np.nonzero((below < 0.0) & (above > 0.0))
        one = np.zeros((len(box), len(stage.bias)))
        one[np.arange(len(box)), neuron] = 1.0
        below[box, neuron] = np.maximum(below[box, neuron], lower_bound(known, output_rows(known, one), box))
        above[box, neuron] = np.minimum(above[box, neuron], -lower_bound(known, output_rows(known, -one), box))
    return below, above


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Expressions ``outputs . y + inputs . x + offset``; and at least the magnitudes of what each number was summed
    from and rounded, which the rounding is charged on. Axes (row, output), (row, input), (row,).
    """

    outputs: Floats
    inputs: Floats
    offset: Floats
    output_magnitude: Floats
    input_magnitude: Floats
    offset_magnitude: Floats

    def at(self, rows: slice) -> "Rows":
        """Some of them."""
        return Rows(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def output_rows(known: Enclosure, outputs: Floats) -> Rows:
    """Rows of exact coefficients (row, out), and nothing else in them."""
    none, zero = np.zeros((len(outputs), known.lower.shape[1])), np.zeros(len(outputs))
    return Rows(outputs, none, zero, np.abs(outputs), none, zero)


def lower_bound(known: Enclosure, rows: Rows, box: Indices) -> Floats:
    """For each row a number that it does not fall below on any trajectory from its box, float64 (row,).

    ``y`` is the ``z`` of the latest stage that is enclosed. Soundness: the argument above. Infinite or no number where
    nothing is known.
    """
    blocks = known.network.blocks(len(box))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        least = [_least(known, lower_form(known, rows.at(block), box[block]), box[block]) for block in blocks]
    return np.concatenate(least)


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
    """``slope . x + constant - charge`` is a lower bound; ``magnitude`` is what the slopes were rounded from."""

    slope: Floats
    constant: Floats
    charge: Floats
    magnitude: Floats


def lower_form(known: Enclosure, rows: Rows, box: Indices) -> Form:
    """The rows in terms of the inputs, all steps back."""
    coefficients, magnitude = rows.outputs, rows.output_magnitude
    constant, charge = rows.offset, rows.offset_magnitude * known.network.own
    for index in reversed(range(len(known.errors))):
        stage = known.network.stages[index]
        charge = charge + _dot(magnitude, known.errors[index][box])
        constant = constant + coefficients @ stage.bias
        coefficients = coefficients @ stage.weight
        if index:
            relu = known.relaxed[index - 1]
            positive, negative = np.maximum(coefficients, 0.0), np.minimum(coefficients, 0.0)
            charge = charge - _dot(negative, relu.excess[box])
            coefficients = positive * relu.rising[box] + negative * relu.chord[box]
            magnitude = np.abs(coefficients)
    slope = coefficients + rows.inputs
    return Form(slope, constant, charge, np.abs(slope) + rows.input_magnitude)


def _least(known: Enclosure, form: Form, box: Indices) -> Floats:
    """The least value of a form over its box, rounded down."""
    lower, upper = known.lower[box], known.upper[box]
    least = _dot(np.maximum(form.slope, 0.0), lower) + _dot(np.minimum(form.slope, 0.0), upper)
    charge = form.charge + _dot(form.magnitude, np.maximum(np.abs(lower), np.abs(upper))) * known.network.own
    charge = charge + (np.abs(form.constant) + charge) * known.network.own
    return np.asarray(least + form.constant - charge * GENEROUS - TINY)


def _dot(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.einsum("rj,rj->r", first, second))
