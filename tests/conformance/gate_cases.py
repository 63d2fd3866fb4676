"""Cases about what gates decide: ends of domains, ties, overlaps, what is not finite, batches.

Where a row lies decides which gate it meets: see ``guarded_model``. One step beside a value is its neighbour in the
wire's datatype.
"""

import numpy as np

from sidecar.errors import Reason
from tests.conformance.building import INFINITY, NAN, OUTSIDE, UNTOUCHED, case, failed, projected
from tests.conformance.expectations import Corrected
from tests.conformance.guarded_model import request, response, typed_request, typed_response

FALLBACK = Corrected(y=((1, 0, 0),), z=((0,),))
GATE_REFUSED, NOT_FINITE = failed(Reason.GATE_REFUSED), failed(Reason.OUTPUT_NOT_FINITE)
ANY = [NAN, INFINITY, -INFINITY]


def above(value: float, dtype=np.float32) -> float:
    return float(np.nextafter(dtype(value), dtype(np.inf)))


def below(value: float, dtype=np.float32) -> float:
    return float(np.nextafter(dtype(value), dtype(-np.inf)))


# x0's ends, an answer that every gate there takes ill, and what becomes of it inside.
_DOMAINS = {
    "ceiling": (0, 1, [3, 2, 1], 0.0, projected(1, 2, 1)),
    "order": (2, 3, [0, 1, 0], 7.0, FALLBACK),
    "never": (4, 5, [0, 0, 0], 0.0, GATE_REFUSED),
    "either": (8, 9, [0, 0, 0], -0.25, Corrected(z=((-1,),))),
}
DOMAIN_CASES = [
    case(f"{gate} {where}", request(x), response([y], [z]), expected)
    for gate, (low, high, y, z, inside) in _DOMAINS.items()
    for where, x, expected in (
        ("at its lower end", [low, 0], inside),
        ("one step above its lower end", [above(low), 0], inside),
        ("one step below its lower end", [below(low), 0], OUTSIDE),
        ("one step above its upper end", [above(high), 0], OUTSIDE),
        ("in the middle at the lower end of the other input", [(low + high) / 2 - 0.25, -10], inside),
        ("in the middle at the upper end of the other input", [(low + high) / 2 - 0.25, 10], inside),
        ("in the middle below the other input", [(low + high) / 2 - 0.25, below(-10)], OUTSIDE),
        ("in the middle above the other input", [(low + high) / 2 - 0.25, above(10)], OUTSIDE),
    )
]
DOMAIN_CASES += [
    case("the upper end of an overlap", request([9, 0]), response([[0, 0, 0]], [7]), Corrected(z=((3,),))),
    case("one step before an overlap", request([below(8.5), 0]), response([[0, 0, 0]], [7]), UNTOUCHED),
    case("at the lower end of an overlap", request([8.5, 0]), response([[0, 0, 0]], [7]), Corrected(z=((3,),))),
    case("the largest float", request([float(np.finfo("f4").max), 0]), response([[9, 9, 9]]), OUTSIDE),
    case(
        "the smallest subnormal float", request([1.401298464324817e-45, 0]), response([[3, 2, 1]]), projected(1, 2, 1)
    ),
    case("negative zero in the other input", request([0.75, -0.0]), response([[3, 2, 1]]), projected(1, 2, 1)),
]

TIE_CASES = [
    case("ceiling one step below", request([0.75, 0]), response([[below(1), 0, 0]]), UNTOUCHED),
    case("ceiling far below", request([0.75, 0]), response([[-3e38, 0, 0]]), UNTOUCHED),
    case("ceiling far above", request([0.75, 0]), response([[3e38, 0, 0]]), projected(1, 0, 0)),
    case("ceiling with a negative zero elsewhere", request([0.75, 0]), response([[3, -0.0, -0.0]]), projected(1, 0, 0)),
    case("order one step apart", request([2.5, 0]), response([[0.25, above(0.25), 0]], [7]), FALLBACK),
    case("order one step the right way", request([2.5, 0]), response([[0.25, below(0.25), 0]], [7]), UNTOUCHED),
    case("order of zeros of both signs", request([2.5, 0]), response([[-0.0, 0.0, 0]]), UNTOUCHED),
    case("order of subnormal floats", request([2.5, 0]), response([[0, 1e-45, 0]], [7]), FALLBACK),
    case("order of large floats", request([2.5, 0]), response([[3e38, 3.1e38, 0]], [7]), FALLBACK),
    case("a strict bound one step above", request([4.5, 0]), response([[0, 0, 1e-45]]), UNTOUCHED),
    case("a strict bound at minus zero", request([4.5, 0]), response([[0, 0, -0.0]]), GATE_REFUSED),
    case("a strict bound one step below", request([4.5, 0]), response([[0, 0, -1e-45]]), GATE_REFUSED),
    case("a disjunct at its tie", request([8.25, 0]), response([[0, 0, 0]], [1]), UNTOUCHED),
    case("the other disjunct at its tie", request([8.25, 0]), response([[0, 0, 0]], [-1]), UNTOUCHED),
    case(
        "a disjunct one FP64 step short",
        request([8.25, 0]),
        response([[0, 0, 0]], [below(1, np.float64)]),
        Corrected(z=((1,),)),
    ),
    case(
        "the other disjunct one FP64 step short",
        request([8.25, 0]),
        response([[0, 0, 0]], [above(-1, np.float64)]),
        Corrected(z=((-1,),)),
    ),
    case(
        "a cap one FP64 step too high",
        request([8.75, 0]),
        response([[0, 0, 0]], [above(3, np.float64)]),
        Corrected(z=((3,),)),
    ),
    case("a cap at its tie", request([8.75, 0]), response([[0, 0, 0]], [3]), UNTOUCHED),
    case("both of two overlapping hold", request([8.75, 0]), response([[0, 0, 0]], [2]), UNTOUCHED),
    case("the nearer disjunct under a cap", request([8.75, 0]), response([[0, 0, 0]], [-0.5]), Corrected(z=((-1,),))),
]

# A tensor that a requirement speaks of is required whole.
_Y, _Z = {0, 1, 2}, {3}
_NEEDED = {"ceiling": (0.75, _Y), "order": (2.5, _Y), "never": (4.5, _Y), "either": (8.25, _Z), "cap": (8.75, _Z)}
_GOOD = {
    "ceiling": [0, 0, 0, 0],
    "order": [1, 0, 0, 0],
    "never": [0, 0, 1, 0],
    "either": [0, 0, 0, 2],
    "cap": [0, 0, 0, 2],
}
_ILL = {"ceiling": NOT_FINITE, "order": FALLBACK, "never": GATE_REFUSED, "either": NOT_FINITE, "cap": NOT_FINITE}


def _answer(gate: str, place: int, value: float):
    row = [*_GOOD[gate]]
    row[place] = value
    return response([row[:3]], [row[3]])


NOT_FINITE_CASES = [
    case(
        f"{gate} with {value} in output {place}",
        request([x0, 0]),
        _answer(gate, place, value),
        _ILL[gate] if place in needed else UNTOUCHED,
    )
    for gate, (x0, needed) in _NEEDED.items()
    for place in range(4)
    for value in (ANY if place in needed else [NAN, INFINITY])
]

_BATCH = [[0.75, 0], [2.5, 0], [1.5, 0], [8.25, 0], [0.25, 1], [8.75, 0], [6.5, 0], [0.5, 2]]
_BAD = [[3, 2, 1], [0, 1, 0], [9, 9, 9], [0, 0, 0], [2, 0, 0], [0, 0, 0], [9, 9, 9], [1, 1, 1]]
_BAD_Z = [5, 5, 5, 0.25, 5, 7, 5, 5]
_GOOD_Y = ((1, 2, 1), (1, 0, 0), (9, 9, 9), (0, 0, 0), (1, 0, 0), (0, 0, 0), (9, 9, 9), (1, 1, 1))
_GOOD_Z = ((5,), (0,), (5,), (1,), (5,), (3,), (5,), (5,))
BATCH_CASES = [
    case(
        f"{form} batch of {count} rows in all kinds of domains",
        ask(_BATCH[:count]),
        answer(_BAD[:count], _BAD_Z[:count]),
        Corrected(y=_GOOD_Y[:count], z=_GOOD_Z[:count]),
    )
    for form, ask, answer in (("a raw", request, response), ("a typed", typed_request, typed_response))
    for count in range(2, 9)
]
BATCH_CASES += [
    case(
        f"a refused row at place {place}",
        request([*[[0.75, 0]] * place, [4.5, 0], *[[0.75, 0]] * (3 - place)]),
        response([[3, 0, 0]] * 4),
        GATE_REFUSED,
    )
    for place in range(4)
]
BATCH_CASES += [
    case("a batch of rows outside", request([[1.5, 0]] * 8), response([[NAN, 9, 9]] * 8), OUTSIDE),
    case("a full batch of satisfying rows", request([[0.75, 0]] * 8), response([[1, 0, 0]] * 8), UNTOUCHED),
    case(
        "a row that cannot be projected beside one that can",
        request([[0.75, 0], [0.25, 0]]),
        response([[3, 0, 0], [NAN, 0, 0]]),
        NOT_FINITE,
    ),
]

GATE_CASES = [*DOMAIN_CASES, *TIE_CASES, *NOT_FINITE_CASES, *BATCH_CASES]
