"""What our own clients say is what the sidecar reads."""

import numpy as np
import pytest

from sidecar.errors import UpstreamError
from sidecar.protocols.open_inference.client import decode_server_ready, encode_infer_request
from sidecar.protocols.open_inference.readiness import encode_server_ready
from sidecar.protocols.open_inference.request import parse_request, read_request
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

OUTPUTS = (TensorSpec("scores", Datatype.FP32, (2,)),)
BATCHED = ModelSignature(
    (TensorSpec("a", Datatype.FP32, (2,)), TensorSpec("b", Datatype.FP64, (1, 1))), OUTPUTS, batch_axis=0
)
SINGLE = ModelSignature((TensorSpec("a", Datatype.FP16, (1, 3)),), OUTPUTS, batch_axis=None)


@pytest.mark.parametrize(("signature", "rows"), [(BATCHED, 1), (BATCHED, 4), (SINGLE, 1)])
def test_encoded_request_reads_as_the_rows_it_was_made_from(signature: ModelSignature, rows: int) -> None:
    inputs = np.arange(rows * 3, dtype=np.float64).reshape(rows, 3)
    request = parse_request(encode_infer_request("some_model", inputs, signature))
    assert request.model_name == "some_model"
    gated = read_request(request, signature, limit_rows=10)
    assert np.array_equal(gated.inputs, inputs)
    assert not gated.added_outputs


@pytest.mark.parametrize(("signature", "shape"), [(BATCHED, (2, 4)), (SINGLE, (2, 3))])
def test_rows_that_do_not_fit_are_refused(signature: ModelSignature, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encode_infer_request("m", np.zeros(shape), signature)


@pytest.mark.parametrize("ready", [True, False])
def test_readiness_reads_as_it_was_written(ready: bool) -> None:
    assert decode_server_ready(encode_server_ready(ready)) is ready


def test_nonsense_is_no_readiness() -> None:
    with pytest.raises(UpstreamError, match="ServerReadyResponse"):
        decode_server_ready(b"\xff")
