"""Small gates over one or two inputs and a few outputs, for the trusted core's unit tests."""

from fractions import Fraction

import pytest

from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, terms
from sidecar.tensors import Datatype, ModelSignature, TensorSpec


class Build:
    """Short spellings of gate values."""

    @staticmethod
    def signature(outputs=5, datatype=Datatype.FP32, inputs=1) -> ModelSignature:
        return ModelSignature(
            (TensorSpec("x", Datatype.FP32, (inputs,)),), (TensorSpec("y", datatype, (outputs,)),), batch_axis=0
        )

    @staticmethod
    def mixed(*kinds) -> ModelSignature:
        """An FP32 input; an output of one value of each of these datatypes, y0, y1 and so on."""
        outputs = tuple(TensorSpec(f"y{index}", kind, (1,)) for index, kind in enumerate(kinds))
        return ModelSignature((TensorSpec("x", Datatype.FP32, (1,)),), outputs, batch_axis=0)

    @staticmethod
    def literal(outputs, offset=0, strict=True, inputs=()) -> Literal:
        def form(coefficients):
            return terms({index: Fraction(value) for index, value in dict(coefficients).items()})

        return Literal(form(outputs), form(inputs), Fraction(offset), strict)

    @classmethod
    def above(cls, higher, lower, strict=True) -> Literal:
        """``y[higher] > y[lower]``"""
        return cls.literal({higher: 1, lower: -1}, strict=strict)

    @staticmethod
    def region(lower=(-1,), upper=(1,), cuts=()) -> Region:
        return Region(Box(tuple(map(Fraction, lower)), tuple(map(Fraction, upper))), tuple(cuts))

    @classmethod
    def gate(cls, *clauses, **changes) -> Gate:
        fields = {
            "property_id": "p",
            "domain": (cls.region(),),
            "requirement": Requirement(tuple(tuple(clause) for clause in clauses)),
            "action": Action.PROJECT,
            "margin": Fraction(0),
            "norm": Norm.L2,
            "fallback": None,
        }
        return Gate(**(fields | changes))

    @classmethod
    def falling_back(cls, values, *clauses, **changes) -> Gate:
        return cls.gate(*clauses, action=Action.FALLBACK, fallback=tuple(map(Fraction, values)), **changes)


@pytest.fixture
def build() -> type[Build]:
    return Build
