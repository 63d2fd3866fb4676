"""On ACAS Xu, asked evenly over the properties' domains, a satisfying row is next to never handed over to Python."""

import collections
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.stated import with_batch_axis
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.client import encode_infer_request
from sidecar.proxy.active_bundle import ActiveBundle, activate
from tests.native.comparing import Compared
from tests.transports import NATIVE_IS_BUILT, NOT_BUILT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not NATIVE_IS_BUILT, reason=NOT_BUILT)]

ROWS = 4000
MOST_HANDED = 0.001
GUARDED = (("1_1", "prop_1"), ("2_9", "prop_8"), ("1_9", "prop_7"), ("3_3", "prop_4"), ("4_5", "prop_2"))


@pytest.mark.parametrize(("network", "property_name"), GUARDED)
def test_at_most_one_satisfying_row_in_a_thousand(acasxu, network, property_name, record_property):
    path = acasxu / f"ACASXU_run2a_{network}_batch_2000.onnx"
    guarded = _guarded(path, acasxu / f"{property_name}.vnnlib")
    session, compared = onnxruntime.InferenceSession(path.read_bytes()), Compared(guarded)
    why = collections.Counter()
    for row in _uniform(guarded):
        request, answer = _asked(row, guarded, session)
        if compared.satisfies(request, answer):
            why[compared.why_handed(request, answer)] += 1
    satisfying = sum(why.values())
    handed = satisfying - why[None]
    record_property("counted", f"{network} {property_name}: {handed} of {satisfying} satisfying rows handed over")
    assert satisfying > ROWS // 2
    assert handed <= MOST_HANDED * satisfying, why


def _guarded(network: Path, properties: Path) -> ActiveBundle:
    read = read_model(network)
    files = [read_properties(properties, read.network.signature)]
    options = CompileOptions("acasxu", 1, time_limit_seconds=None, max_regions=(16,))
    return activate(compile_bundle(with_batch_axis(read, files), files, options, lambda _: None).content)


def _uniform(guarded: ActiveBundle) -> np.ndarray:
    lower, upper = guarded.gates.lower[0], guarded.gates.upper[0]
    drawn = np.random.default_rng(7).uniform(lower, upper, (ROWS, len(lower)))
    return np.clip(drawn.astype(np.float32), lower.astype(np.float32), upper.astype(np.float32))


def _asked(row: np.ndarray, guarded: ActiveBundle, session: onnxruntime.InferenceSession) -> tuple[bytes, bytes]:
    (given,), (wanted,) = guarded.signature.inputs, guarded.signature.outputs
    request = encode_infer_request("acasxu", row[None].astype(np.float64), guarded.signature)
    (output,) = session.run([wanted.name], {given.name: row.reshape(given.row_shape)})
    answer = pb.ModelInferResponse(model_name="acasxu", raw_output_contents=[output.tobytes()])
    answer.outputs.add(name=wanted.name, datatype="FP32", shape=output.shape)
    return request, answer.SerializeToString()
