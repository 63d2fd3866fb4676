"""How far a served evaluation of a network may stray from real arithmetic, stage by stage.

A *stage* is a run of consecutive affine layers, taken together; between stages stands a ReLU, which is exact
in any arithmetic. For every input ``h`` of a stage with ``|h| <= m`` element-wise, what the stage yields in
real arithmetic *and* in every evaluation that the declared arithmetic allows lies within

    weight @ h + bias  +-  (error_slope @ m + error_offset)

as long as ``growth * (1 + max(m)) + shift <= limit``; beyond that an intermediate value might overflow, and nothing is
known. (The left side is at least every intermediate value's magnitude in real arithmetic, and what underflow adds;
rounding doubles it at most, and ``limit`` is at most half of the format's largest number.) A bound that allows a
perturbation ``e``, ``|e| <= E = error_slope @ m + error_offset``, of each pre-activation therefore holds for the real
and for the served network at once.

Derivation. Write a stage's result as the sum over all paths of monomials ``w_k ... w_1 h`` and ``w_k ... b_j``. An
evaluation in floating point (any order of summation, with or without fused multiply-add, neighbouring affine layers
fused or folded into each other) multiplies each monomial by at most ``N`` factors ``1 + d``, ``|d| <= u``, where ``N``
is the sum of the layers' ``operations`` and ``u`` the unit roundoff of products and sums. An arithmetic that keeps what
it multiplies, and what comes out, in a coarser format rounds four times more in each of the ``k`` layers that compute
something: a weight or bias, what the weight is multiplied with (which need not be what came out of the layer before:
one consumer may take it rounded, another not), the sum of products, the layer's result; those amount to ``v``. What
becomes a weight or bias together, as a variance and a scale do, is combined before it is rounded. With ``s = N u + k
v`` the relative error is at most ``gamma(s) = s / (1 - s)``, for a product of ``1 + |d_i|`` is at most ``exp(s)``
(Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1, has it for equal ones). Hardware that aligns a block
of addends to the largest and cuts off what lies below its 24 bits, as tensor cores do, errs by at most ``2**-23`` of it
for each, by ``2**-23`` of the block's result when that is cut off, and once more when it is an addend of the next
block: ``3 * 2**-23`` for each term, where ``u`` is ``2**-21``. The monomials' magnitudes add up to at most ``M m + c``
with ``M = |W_k| ... |W_1|`` and ``c`` the same composition of ``|b|``.

Each of those roundings may underflow, but a sum in a format with subnormals, and then errs by at most ``eta`` besides:
five times in a layer (those four, and the product). What multiplies that error later is at most ``P (1 + m) + p``,
where ``P`` and ``p`` compose ``max(1, |W|)`` and ``max(1, |b|)`` over nonzero entries. ``eta`` is that of the coarser
format; where float32 sums may flush to zero it is more than ``2**20`` such losses. Twice ``5 (k + 1)`` pays for the
factors ``1 + d`` too, which are less than two together as long as ``s <= 1/2``, and for products of such errors, since
``5 k k eta < 1``: where ``v`` is not zero as long as ``k v <= 1/2``, else as long as ``k`` is below two million. Hence

    E = gamma(s) (M m + c)  +  10 (k + 1) eta (P (1 + m) + p).

Our own float64 computation is charged to the same ``E``. A bound is computed as a sum of monomials (a literal's
coefficient, slopes, weights and one value), each of which suffers at most ``n`` roundings, ``n`` being a count for the
whole network; composing ``weight`` and ``bias`` here is part of it. ``slack = 4 gamma64(n)`` times the magnitudes,
``M m + c`` per unit of a row's coefficient, is added to ``E``. What underflow costs us is below :data:`TINY` as long
as no value exceeds ``limit``. Every coefficient of ``E`` is multiplied by :data:`INFLATE`, more than float64 loses
in adding up ``n`` terms of one sign, so a computed ``E`` is never too small.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Arithmetic
from sidecar.errors import InputError
from sidecar.network.products import product
from sidecar.network.values import Affine, Network, Relu
from sidecar.numerics import (
    ELEMENTARY_ERROR,
    ELEMENTARY_ERROR_16,
    UNIT_ROUNDOFF_16,
    UNIT_ROUNDOFF_32,
    UNIT_ROUNDOFF_64,
    UNIT_ROUNDOFF_ACCUMULATED,
    UNIT_ROUNDOFF_BF16,
    UNIT_ROUNDOFF_TF32,
)
from sidecar.tensors import Datatype, ModelSignature

Floats: TypeAlias = npt.NDArray[np.float64]

INFLATE: Final = 1.0 + 2.0**-30
"""Factor on sums of nonnegative terms that makes them upper bounds of the exact sums (up to 2**22 roundings)."""

TINY: Final = 1e-200
"""More than all underflow errors of a whole float64 computation together: fewer than 2**60 products, each
wrong by at most 2**-1075 and then multiplied by less than 2**300 (``limit``)."""

MOST_ROUNDINGS: Final = 2**20


MOST_ROUNDED: Final = 0.5
"""``s`` up to which a stage's roundings are bounded."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A declared arithmetic, in numbers.

    Args:
        datatype: of the tensors that it is about.
        roundoff: of each product and sum, ``u``.
        kept: of a layer's operands and results together, ``v``; zero where they need no rounding of their own.
        underflow: ``eta``.
        limit: magnitudes in real arithmetic up to which nothing overflows, whatever is rounded.
        elementary: absolute error of a sigmoid or tanh.
    """

    datatype: Datatype
    roundoff: float
    kept: float
    underflow: float
    limit: float
    elementary: float

    def relative(self, operations: int, layers: int) -> float:
        """``gamma(s)``. Raises InputError where ``s`` is more than a half: then nothing is bounded."""
        total = operations * self.roundoff + layers * self.kept
        if total > MOST_ROUNDED:
            raise InputError(
                f"on one path between two nonlinear operations the declared arithmetic rounds {operations} times in "
                f"{layers} layers, which may change a value by {total:.0%}; expected at most {MOST_ROUNDED:.0%}, so "
                "that something is known of the answer: declare another arithmetic, if the server's is another"
            )
        return total / (1.0 - total)


_ACCUMULATED: Final = 2.0**-100
"""More than ``2**20`` float32 sums lose that flush to zero."""

FORMATS: Mapping[Arithmetic, Format] = MappingProxyType(
    {
        Arithmetic.IEEE32: Format(Datatype.FP32, UNIT_ROUNDOFF_32, 0.0, 2.0**-150, 2.0**126, ELEMENTARY_ERROR),
        Arithmetic.IEEE64: Format(Datatype.FP64, UNIT_ROUNDOFF_64, 0.0, 2.0**-1074, 2.0**300, ELEMENTARY_ERROR),
        Arithmetic.TF32: Format(
            Datatype.FP32,
            UNIT_ROUNDOFF_ACCUMULATED,
            2 * UNIT_ROUNDOFF_TF32,
            _ACCUMULATED,
            2.0**126,
            ELEMENTARY_ERROR,
        ),
        Arithmetic.BF16: Format(
            Datatype.FP32,
            UNIT_ROUNDOFF_ACCUMULATED,
            4 * UNIT_ROUNDOFF_BF16,
            _ACCUMULATED,
            2.0**126,
            ELEMENTARY_ERROR + UNIT_ROUNDOFF_BF16,
        ),
        Arithmetic.FP16: Format(
            Datatype.FP32,
            UNIT_ROUNDOFF_ACCUMULATED,
            4 * UNIT_ROUNDOFF_16,
            2.0**-24,
            32_752.0,
            ELEMENTARY_ERROR + UNIT_ROUNDOFF_16,
        ),
        Arithmetic.IEEE16: Format(
            Datatype.FP32, UNIT_ROUNDOFF_16, 3 * UNIT_ROUNDOFF_16, 2.0**-25, 32_752.0, ELEMENTARY_ERROR_16
        ),
    }
)


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """Consecutive affine layers as one, with the envelope that the module describes.

    Args:
        weight: float64 (out, in). bias: float64 (out,).
        weight_and_bias: float64 (out, in + 1); the bias is the last column.
        magnitude: float64 (out, in); ``abs(weight)``.
        error_slope: float64 (out, in). error_offset: float64 (out,).
        growth, shift, limit: nothing overflows while ``growth * (1 + max(m)) + shift <= limit``.
    """

    weight: Floats
    bias: Floats
    weight_and_bias: Floats
    magnitude: Floats
    error_slope: Floats
    error_offset: Floats
    growth: float
    shift: float
    limit: float

    def error(self, magnitude: Floats) -> Floats:
        """``E`` for inputs bounded by ``magnitude`` (box, in); (box, out), infinite where overflow looms."""
        error = product(magnitude, self.error_slope.T) + self.error_offset
        peak = self.growth * (1.0 + magnitude.max(axis=1)) + self.shift
        return np.where((peak <= self.limit)[:, None], error, np.inf)


@dataclasses.dataclass(frozen=True, eq=False)
class Staged:
    """A network as stages with a ReLU between each two.

    Args:
        stages: at least one; the last one's result is the output.
        slack: relative error charged for our own float64 computation.
    """

    stages: tuple[Stage, ...]
    slack: float


def staged(network: Network, arithmetic: Arithmetic) -> Staged:
    """The network's stages with envelopes for real arithmetic and for ``arithmetic``.

    Raises:
        InputError: the tensors are not of the arithmetic's datatype, a layer is too wide to bound, or the arithmetic
            rounds more than leaves anything.
    """
    form = format_of(arithmetic, network.signature)
    runs = _runs(network)
    count = 64 + sum(16 + sum(sum(layer.weight.shape) + layer.operations for layer in run) for run in runs)
    if count > MOST_ROUNDINGS:
        raise InputError(f"the network sums up {count} terms on one path; the limit is {MOST_ROUNDINGS}")
    slack = 4.0 * gamma(count, UNIT_ROUNDOFF_64)
    return Staged(tuple(_stage(run, form, slack) for run in runs), slack)


def declared_arithmetic(signature: ModelSignature, declared: Arithmetic | None = None) -> Arithmetic:
    """What is declared; where nothing is, the IEEE arithmetic of the tensors' datatype, else float32's."""
    own = Arithmetic.IEEE64 if signature.inputs[0].datatype is Datatype.FP64 else Arithmetic.IEEE32
    return own if declared is None else declared


def format_of(arithmetic: Arithmetic, signature: ModelSignature) -> Format:
    """The arithmetic in numbers. Raises InputError where the tensors are not of its datatype."""
    form = FORMATS[arithmetic]
    datatypes = {*signature.input_datatypes(), *signature.output_datatypes()}
    if datatypes != {form.datatype}:
        raise InputError(
            f"the declared arithmetic {arithmetic} speaks about {form.datatype} tensors; the model's are "
            f"{', '.join(sorted(datatypes))}"
        )
    return form


def gamma(count: int, roundoff: float) -> float:
    """Relative error of a product of so many factors ``1 + d``, each ``|d| <= roundoff``."""
    return count * roundoff / (1.0 - count * roundoff)


def _runs(network: Network) -> list[list[Affine]]:
    """Runs of affine layers between ReLUs; identities stand where a ReLU comes first or last."""
    runs: list[list[Affine]] = [[]]
    width = network.signature.input_size
    for layer in network.layers:
        match layer:
            case Affine():
                runs[-1].append(layer)
                width = len(layer.bias)
            case Relu() if not runs[-1] and len(runs) > 1:
                pass  # a ReLU right after another changes nothing
            case Relu():
                runs[-1] = runs[-1] or [_identity(width)]
                runs.append([])
    runs[-1] = runs[-1] or [_identity(width)]
    return runs


def _identity(width: int) -> Affine:
    return Affine(np.eye(width), np.zeros(width), operations=0)


def _stage(run: list[Affine], form: Format, slack: float) -> Stage:
    weight, bias = run[0].weight, run[0].bias
    magnitude, constant = np.abs(weight), np.abs(bias)
    amplified, lifted = at_least_one(weight), at_least_one(bias)
    growth, shift, lost = _norm(weight), float(np.abs(bias).max()), _lost(run[0])
    for layer in run[1:]:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
        magnitude, constant = np.abs(layer.weight) @ magnitude, np.abs(layer.weight) @ constant + np.abs(layer.bias)
        later = at_least_one(layer.weight)
        amplified, lifted = later @ amplified, later @ lifted + at_least_one(layer.bias)
        growth, shift = _norm(layer.weight) * growth, _norm(layer.weight) * shift + float(np.abs(layer.bias).max())
        lost *= _lost(layer)
    layers = max(1, sum(layer.operations > 0 for layer in run))
    relative = form.relative(sum(layer.operations for layer in run), layers)
    underflow = 10.0 * (layers + 1) * form.underflow
    slope = relative * magnitude + underflow * amplified
    offset = relative * constant + underflow * (amplified.sum(axis=1) + lifted)
    return Stage(
        weight=weight,
        bias=bias,
        weight_and_bias=np.column_stack([weight, bias]),
        magnitude=np.abs(weight),
        error_slope=(slope + slack * (magnitude + slope)) * INFLATE,
        error_offset=(offset + slack * (constant + offset) + TINY) * INFLATE,
        growth=(growth + underflow * lost) * INFLATE,
        shift=shift * INFLATE,
        limit=form.limit,
    )


def at_least_one(values: Floats) -> Floats:
    """``max(1, |values|)`` where nonzero, else 0: no product, no underflow."""
    return np.where(values != 0.0, np.maximum(np.abs(values), 1.0), 0.0)


def _lost(layer: Affine) -> float:
    """What underflow in a layer is multiplied with at most, at least one."""
    return max(1.0, float((at_least_one(layer.weight).sum(axis=1) + at_least_one(layer.bias)).max()))


def _norm(weight: Floats) -> float:
    """The largest row sum of magnitudes, at least one so that later values bound earlier ones."""
    return max(1.0, float(np.abs(weight).sum(axis=1).max()))
