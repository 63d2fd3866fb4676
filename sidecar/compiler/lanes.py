"""The inner loops of the compiled bounds, eight float64 lanes at a time, and how arrays are passed to them.

Numba leaves vectorising to LLVM's loop optimiser, which prepares for long loops; rows here have ten to fifty values,
and nearly all of their time went into the remainders of such loops (measured: a factor of 5). So the loops are given
to LLVM in vector form. Rows are padded with zeros to a multiple of :data:`~sidecar.compiler.flat.LANES`, and arrays
are C-contiguous float64; nothing checks an index.

Rounding. Products and sums may be fused (``contract``); sums run in any order, here in eight partial ones. Nothing
assumes that values are finite: a NaN compares false and is passed on.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from llvmlite import ir
from numba.core import cgutils, types
from numba.np.arrayobj import make_array

from sidecar.compiler.flat import LANES
from sidecar.compiler.jit import intrinsic

_DOUBLE: Final = ir.DoubleType()
_VECTOR: Final = ir.VectorType(_DOUBLE, LANES)
_INDEX: Final = ir.IntType(64)
_FUSED: Final = ("contract",)
_ROWS: Final = 4
"""Rows that share each load of a matrix's values in ``product``."""

Typed: TypeAlias = tuple[Any, Callable[..., Any]]
"""A signature, and what generates the code for it."""


class _Matrix:
    """A C-contiguous float64 array in generated code: addresses, loads and stores."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        array = make_array(kind)(context, builder, value)
        self._builder, self._start = builder, array.data
        self._shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)

    def row(self, row: Any) -> Any:
        """The address where a row starts."""
        return self._builder.gep(self._start, [self._builder.mul(row, self.width)])

    def matrix(self, kind: Any, stage: Any) -> Any:
        """The address where a matrix starts, of an array with the axes (kind, stage, row, column)."""
        builder = self._builder
        number = builder.add(builder.mul(kind, self._shape[1]), stage)
        return builder.gep(self._start, [builder.mul(number, builder.mul(self._shape[2], self._shape[3]))])

    @property
    def width(self) -> Any:
        """The number of columns."""
        return self._shape[-1]

    @property
    def start(self) -> Any:
        """The address where the array starts."""
        return self._start


def _load(builder: Any, row: Any, column: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(row, [column]), _VECTOR.as_pointer()), align=8)


def _store(builder: Any, value: Any, row: Any, column: Any) -> None:
    builder.store(value, builder.bitcast(builder.gep(row, [column]), _VECTOR.as_pointer()), align=8)


def _zeros() -> Any:
    return ir.Constant(_VECTOR, [0.0] * LANES)


def _everywhere(builder: Any, number: Any) -> Any:
    """A vector with ``number`` in each lane."""
    empty = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(empty, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _accumulator(builder: Any) -> Any:
    place = cgutils.alloca_once(builder, _VECTOR)
    builder.store(_zeros(), place)
    return place


def _add_product(builder: Any, place: Any, one: Any, other: Any) -> None:
    builder.store(builder.fadd(builder.load(place), builder.fmul(one, other, flags=_FUSED), flags=_FUSED), place)


def _sum(builder: Any, vector: Any) -> Any:
    """The sum of a vector's lanes."""
    total = builder.extract_element(vector, ir.IntType(32)(0))
    for lane in range(1, LANES):
        total = builder.fadd(total, builder.extract_element(vector, ir.IntType(32)(lane)))
    return total


@intrinsic
def product(typing: Any, form: Any, rows: Any, link: Any, count: Any, columns: Any, passed: Any) -> Typed:
    """``passed[:rows, :columns] = form[:rows, :count] @ link[:count, :columns]``.

    Rows are computed four at a time, columns eight at a time: both arrays have room for that.
    """
    signature = types.void(form, types.int64, link, types.int64, types.int64, passed)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        left = _Matrix(context, builder, kinds[0], arguments[0])
        right = _Matrix(context, builder, kinds[2], arguments[2])
        result = _Matrix(context, builder, kinds[5], arguments[5])
        rows, count, columns = arguments[1], arguments[3], arguments[4]
        with cgutils.for_range_slice(builder, _INDEX(0), rows, _INDEX(_ROWS)) as (row, _):
            places = [builder.add(row, _INDEX(each)) for each in range(_ROWS)]
            lefts, results = [left.row(place) for place in places], [result.row(place) for place in places]
            with cgutils.for_range_slice(builder, _INDEX(0), columns, _INDEX(LANES)) as (column, _):
                sums = [_accumulator(builder) for _ in places]
                with cgutils.for_range(builder, count) as loop:
                    weights = _load(builder, right.row(loop.index), column)
                    for total, values in zip(sums, lefts, strict=True):
                        coefficient = builder.load(builder.gep(values, [loop.index]))
                        _add_product(builder, total, _everywhere(builder, coefficient), weights)
                for total, values in zip(sums, results, strict=True):
                    _store(builder, builder.load(total), values, column)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_rows(
    typing: Any,
    targets: Any,
    coefficients: Any,
    chosen: Any,
    count: Any,
    matrices: Any,
    stage: Any,
    columns: Any,
) -> Typed:
    """Three sums at once, for each ``k`` in 0, 1, 2.

    ``targets[k, :columns] += sum over i < count of coefficients[k, i] * matrices[k, stage, chosen[i], :columns]``
    """
    signature = types.void(targets, coefficients, chosen, types.int64, matrices, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        result, factors = (_Matrix(context, builder, kinds[at], arguments[at]) for at in range(2))
        places = _Matrix(context, builder, kinds[2], arguments[2]).start
        table = _Matrix(context, builder, kinds[4], arguments[4])
        count, stage, columns = arguments[3], arguments[5], arguments[6]
        starts = [table.matrix(_INDEX(kind), stage) for kind in range(3)]
        with cgutils.for_range_slice(builder, _INDEX(0), columns, _INDEX(LANES)) as (column, _):
            totals = [_accumulator(builder) for _ in starts]
            for kind, total in enumerate(totals):
                builder.store(_load(builder, result.row(_INDEX(kind)), column), total)
            with cgutils.for_range(builder, count) as loop:
                offset = builder.mul(builder.load(builder.gep(places, [loop.index])), table.width)
                for kind, (total, start) in enumerate(zip(totals, starts, strict=True)):
                    factor = builder.load(builder.gep(factors.row(_INDEX(kind)), [loop.index]))
                    row = builder.gep(start, [offset])
                    _add_product(builder, total, _everywhere(builder, factor), _load(builder, row, column))
            for kind, total in enumerate(totals):
                _store(builder, builder.load(total), result.row(_INDEX(kind)), column)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def gather(typing: Any, target: Any, source: Any, chosen: Any, columns: Any) -> Typed:
    """``target[i] = source[chosen[i]]`` for ``i < columns``, rounded up to whole lanes."""
    signature = types.void(target, source, chosen, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        into, source, places = (_Matrix(context, builder, kinds[at], arguments[at]).start for at in range(3))
        with cgutils.for_range_slice(builder, _INDEX(0), arguments[3], _INDEX(LANES)) as (column, _):
            values = ir.Constant(_VECTOR, ir.Undefined)
            for lane in range(LANES):
                place = builder.load(builder.gep(places, [builder.add(column, _INDEX(lane))]))
                values = builder.insert_element(
                    values, builder.load(builder.gep(source, [place])), ir.IntType(32)(lane)
                )
            _store(builder, values, into, column)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pass_relus(
    typing: Any,
    form: Any,
    row: Any,
    rise: Any,
    chord: Any,
    lift: Any,
    error: Any,
    columns: Any,
) -> Typed:
    """One row of ``form`` through a layer of ReLUs, in place: a coefficient times ``rise``, or ``chord`` if negative.

    Returns what the row's constant loses: ``sum |passed| error - sum of negative coefficients * lift``, a sum of
    nonnegative terms.
    """
    signature = types.float64(form, types.int64, rise, chord, lift, error, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        values = _Matrix(context, builder, kinds[0], arguments[0]).row(arguments[1])
        slopes, chords, lifts, errors = (
            _Matrix(context, builder, kinds[at], arguments[at]).start for at in range(2, 6)
        )
        total = _accumulator(builder)
        with cgutils.for_range_slice(builder, _INDEX(0), arguments[6], _INDEX(LANES)) as (column, _):
            coefficient = _load(builder, values, column)
            rising = builder.fcmp_ordered(">=", coefficient, _zeros())
            slope = builder.select(rising, _load(builder, slopes, column), _load(builder, chords, column))
            passed = builder.fmul(coefficient, slope)
            _store(builder, passed, values, column)
            falling = builder.select(rising, _zeros(), builder.fneg(coefficient))
            negative = builder.fcmp_ordered("<", passed, _zeros())
            magnitude = builder.select(negative, builder.fneg(passed), passed)
            _add_product(builder, total, magnitude, _load(builder, errors, column))
            _add_product(builder, total, falling, _load(builder, lifts, column))
        return _sum(builder, builder.load(total))

    return signature, generate


@intrinsic
def borrowed(typing: Any, arrays: Any) -> Typed:
    """A named tuple of arrays without their reference counts.

    Numba counts references for each row that is looked at, with atomic operations that take more time than what is done
    with the row, and threads that share an array wait for each other. The caller keeps the arrays.
    """
    signature = arrays(arrays)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = arguments[0]
        for place, kind in enumerate(signature.args[0].types):
            array = make_array(kind)(context, builder, builder.extract_value(arguments[0], place))
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            array.parent = cgutils.get_null_value(array.parent.type)
            result = builder.insert_value(result, array._getvalue(), place)
        return result

    return signature, generate
