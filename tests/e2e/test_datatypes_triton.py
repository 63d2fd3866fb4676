"""Integers and booleans on a real Triton behind the sidecar, raw and typed: both read the same values, to the last one.

The bundles are the conformance cases'. `echo` requires y1 == x1, so an answer that comes through untouched says that
what Triton's model was given, what it answered and what the gates read are the same number.
"""

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.conformance.guarded_model import DTYPES
from tests.conformance.typed_cases import BEYOND, ENDS, NARROW
from tests.conformance.typed_model import model_name, raw_request, typed_bundle, typed_request, wire
from tests.e2e.guarding import running_sidecar
from tests.e2e.triton.launcher import ECHO_MODEL, ServedFolder, running_triton

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SERVED = ("BOOL", "INT8", "UINT16", "INT64", "UINT64")
METHOD = "/inference.GRPCInferenceService/ModelInfer"

CONFIGURATION = """
backend: "python"
max_batch_size: 8
input [{{ name: "x" data_type: TYPE_{datatype} dims: [2] }}]
output [{{ name: "y" data_type: TYPE_{datatype} dims: [2] }}, {{ name: "z" data_type: TYPE_FP32 dims: [1] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
"""


def _folder(root: Path, datatype: str) -> ServedFolder:
    folder = root / datatype
    folder.mkdir()
    shutil.copy2(ECHO_MODEL / "model.py", folder)
    (folder / "config.pbtxt").write_text(CONFIGURATION.format(datatype=datatype))
    return ServedFolder(model_name(datatype), folder)


@pytest.fixture(scope="module")
def channels(triton_install, server_logs, tmp_path_factory):
    """To Triton itself, and through the sidecar."""
    root = tmp_path_factory.mktemp("models")
    folder = tmp_path_factory.mktemp("triton")
    server_logs += [folder / "triton.log", root / "sidecar.log"]
    bundles = [root / f"{datatype}.gates" for datatype in SERVED]
    for path, datatype in zip(bundles, SERVED, strict=True):
        path.write_bytes(typed_bundle(datatype))
    served = [_folder(root, datatype) for datatype in SERVED]
    with (
        running_triton(triton_install, served, folder) as server,
        running_sidecar(bundles, server.grpc_address, server_logs[-1]) as sidecar,
        grpc.insecure_channel(server.grpc_address) as direct,
        grpc.insecure_channel(sidecar.address) as through,
    ):
        yield direct, through


def _asked(channel: grpc.Channel, request) -> tuple[list, str]:
    """The rows of `y`, and what the sidecar did."""
    body, call = channel.unary_unary(METHOD).with_call(request.SerializeToString(), timeout=20)
    answer = triton.service_pb2.ModelInferResponse.FromString(body)
    index = [tensor.name for tensor in answer.outputs].index("y")
    y = np.frombuffer(answer.raw_output_contents[index], DTYPES[answer.outputs[index].datatype])
    trailers = {each.key: each.value for each in call.trailing_metadata()}
    return y.reshape(-1, 2).astype(object).tolist(), trailers.get("gate-outcome", "")


def _refusal(channel: grpc.Channel, request) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(METHOD)(request.SerializeToString(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return {each.key: each.value for each in caught.value.trailing_metadata()}["gate-reason"]


def _forms(datatype: str, x):
    numbers = [bool(value) for value in x] if datatype == "BOOL" else list(x)
    return raw_request(datatype, wire(datatype, x)), typed_request(datatype, numbers)


@pytest.mark.parametrize("datatype", SERVED)
def test_the_values_at_the_ends_come_through_untouched(channels, datatype):
    for end in ENDS[datatype]:
        for request in _forms(datatype, (1, end)):
            assert _asked(channels[1], request) == ([[0, end]], "untouched" if end else "corrected")


@pytest.mark.parametrize("datatype", SERVED)
def test_a_violating_row_gets_the_fallback(channels, datatype):
    for request in _forms(datatype, (1, 0)):
        assert _asked(channels[0], request) == ([[1, 0]], "")
        assert _asked(channels[1], request) == ([[0, 0]], "corrected")


@pytest.mark.parametrize("datatype", [name for name in SERVED if name in NARROW])
def test_triton_cuts_a_typed_value_beyond_the_datatype_and_the_sidecar_refuses_it(channels, datatype):
    bits = 8 * DTYPES[datatype].itemsize
    for value in NARROW[datatype]:
        request = typed_request(datatype, [1, value])
        ((_, got),), _ = _asked(channels[0], request)
        assert got != value
        assert (got - value) % 2**bits == 0
        assert _refusal(channels[1], request) == "input_contents"


@pytest.mark.parametrize("datatype", [name for name in SERVED if name in BEYOND])
def test_a_64_bit_integer_that_cannot_be_judged_is_refused(channels, datatype):
    for value in BEYOND[datatype]:
        request = typed_request(datatype, [1, value])
        assert _asked(channels[0], request)[0] == [[0, value]]
        assert _refusal(channels[1], request) == "input_contents"


def test_a_boolean_byte_of_two_reaches_no_model(channels):
    request = raw_request("BOOL", b"\x01\x02")
    assert _asked(channels[0], request)[0]  # Triton lets it through
    assert _refusal(channels[1], request) == "input_contents"
