"""One small bundle that uses everything format version 1 has, built by hand."""

from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.values import Arithmetic, Bundle, Manifest, PropertyRecord, PropertySource, SelfTestVectors
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement
from sidecar.properties.values import Severity, Traceability
from sidecar.tensors import Datatype, ModelSignature, TensorSpec


def _box(*bounds: tuple[str, str]) -> Box:
    return Box(tuple(Fraction(low) for low, _ in bounds), tuple(Fraction(high) for _, high in bounds))


def _literal(outputs: dict[int, int], inputs: dict[int, int], offset: str, *, strict: bool) -> Literal:
    return Literal(
        outputs=tuple((index, Fraction(value)) for index, value in outputs.items()),
        inputs=tuple((index, Fraction(value)) for index, value in inputs.items()),
        offset=Fraction(offset),
        strict=strict,
    )


def _leaf(label: Label) -> CoverageTree:
    volume = np.zeros(4)
    volume[label] = 1.0
    return CoverageTree(
        feature=np.array([LEAF], np.int32),
        threshold=np.zeros(1),
        label=np.array([label], np.uint8),
        volume=volume,
    )


def _split_tree() -> CoverageTree:
    """Over the box [0, 60] x [0, 30]: split at distance 15, the near half at speed 7.5."""
    return CoverageTree(
        feature=np.array([0, 1, LEAF, LEAF, LEAF], np.int32),
        threshold=np.array([15.0, 7.5, 0.0, 0.0, 0.0]),
        label=np.array([0, 0, Label.SILENT, Label.OPEN, Label.VIOLATING], np.uint8),
        volume=np.array([0.0, 0.75, 0.1875, 0.0625]),
    )


@pytest.fixture
def bundle() -> Bundle:
    """Accepted as it is, and passes its self-test.

    The golden file of version 1 holds just this: never change it once version 1 is released.
    """
    manifest = Manifest(
        name="brake",
        revision=7,
        model_digest="0123456789abcdef" * 4,
        signature=ModelSignature(
            inputs=(TensorSpec("distance", Datatype.FP32, (1,)), TensorSpec("speed", Datatype.FP32, ())),
            outputs=(TensorSpec("scores", Datatype.FP32, (3,)),),
            batch_axis=0,
        ),
        arithmetic=Arithmetic.IEEE32,
        properties=(
            PropertyRecord(
                Traceability(
                    "brake-when-near",
                    title="Brake when something is near",
                    hazard="H-1: collision",
                    rationale="Braking must score at least as high as going on.\nSee the hazard analysis, § 3.",
                    owner="safety@example.org",
                    severity=Severity.CRITICAL,
                ),
                Mode.ENFORCE,
            ),
            PropertyRecord(Traceability("bounded-score", severity=Severity.WARNING), Mode.SHADOW),
        ),
        compiler_version="0.1.0",
        options=(("max-regions", "3,1,1"), ("minimum-volume", "1e-06")),
    )
    gates = (
        Gate(
            property_id="brake-when-near",
            domain=(
                Region(_box(("0", "60"), ("0", "30"))),
                Region(_box(("50", "201/2"), ("0", "30")), (_literal({}, {0: -1, 1: 10}, "0", strict=False),)),
            ),
            requirement=Requirement(
                (
                    (
                        _literal({0: -1, 1: 1}, {}, "0", strict=False),
                        _literal({2: 1}, {0: 1}, "-1000", strict=True),
                    ),
                )
            ),
            action=Action.PROJECT,
            margin=Fraction(0),
            norm=Norm.L2,
            fallback=None,
        ),
        Gate(
            property_id="bounded-score",
            domain=(Region(_box(("-1/3", "1000"), ("0", "100"))),),
            requirement=Requirement(((_literal({2: -1}, {}, "1500", strict=False),),)),
            action=Action.FALLBACK,
            margin=Fraction(1, 100),
            norm=Norm.LINF,
            fallback=(Fraction(0), Fraction(1), Fraction(1, 2)),
        ),
    )
    outputs = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25], [1.0, 0.0, 2000.0], [-0.0, 0.0, 9000.0]])
    vectors = SelfTestVectors(
        inputs=np.array([[10.0, 5.0], [20.0, 5.0], [500.0, 1.0], [-1.0, 0.0]]),
        outputs=outputs,
        lower=np.array([outputs[0] - 2.0**-20, outputs[1], [0.75, -np.inf, -np.inf], [-np.inf] * 3]),
        upper=np.array([outputs[0] + 2.0**-20, outputs[1], [1.25, np.inf, np.inf], [np.inf] * 3]),
        corrected=np.array([outputs[0], [0.5, 0.5, 0.25], [0.0, 1.0, 0.5], outputs[3]]),
        contained=np.array([[True, True], [True, True], [False, True], [False, False]]),
        fired=np.array([[False, False], [True, False], [False, True], [False, False]]),
    )
    return Bundle(
        manifest=manifest,
        gates=gates,
        coverage=((_split_tree(), _leaf(Label.VIOLATING)), (_leaf(Label.OPEN),)),
        vectors=vectors,
        sources=(
            PropertySource("brake.yaml", b"# the property file, byte for byte\r\n\xff"),
            PropertySource("empty.vnnlib", b""),
        ),
    )
