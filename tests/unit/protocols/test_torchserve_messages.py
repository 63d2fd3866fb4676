"""TorchServe's messages, codecs made from a signature, and the Open Inference service's ids."""

import json

import numpy as np
import pytest

from sidecar.errors import CallerError, InternalError, Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as infer_pb
from sidecar.protocols.generated import torchserve_pb2 as pb
from sidecar.protocols.torchserve import messages
from sidecar.protocols.torchserve.codec import (
    Keys,
    encode_request,
    json_codec,
    npy_codec,
    raw_codec,
    read_request,
    read_response,
    replace_outputs,
)
from sidecar.protocols.torchserve.messages import (
    encode_ping_response,
    parse_prediction,
    parse_predictions_request,
    with_prediction,
)
from sidecar.protocols.torchserve.open_inference import (
    encode_infer_request,
    has_id,
    parse_infer_request,
    read_infer_request,
    require_typed,
    without_id,
)
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

SIGNATURE = ModelSignature(
    (TensorSpec("x", Datatype.FP32, (2,)),), (TensorSpec("y", Datatype.FP32, (3,)),), batch_axis=0
)
ROWS = np.array([[1.5, -2.0], [0.25, 4.0]])
OUTPUTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
RAW = raw_codec(Keys("data"), SIGNATURE, None)
JSON = json_codec(Keys("data", frozenset({"meta"})), SIGNATURE, Datatype.FP64, {"x": ("/r",)}, {"y": ("/s/*/v",)})


def _request(**inputs: bytes):
    return parse_predictions_request(pb.PredictionsRequest(model_name="m", input=inputs).SerializeToString())


def test_the_last_entry_of_a_key_counts_as_it_does_upstream():
    entries = [pb.PredictionsRequest(input={"data": each}).SerializeToString() for each in (b"one", b"two")]
    assert parse_predictions_request(b"".join(entries)).inputs == {"data": b"two"}


@pytest.mark.parametrize(
    "content", [b"\x0a\x05m", b"\xff", b"\x1a\x02\x0a\x05", b"\x0a\x01\xff", b"\x1a\x03\x0a\x01\xff"]
)
def test_what_is_no_request_is_refused(content):
    with pytest.raises(CallerError) as caught:
        parse_predictions_request(content)
    assert caught.value.reason is Reason.MALFORMED_REQUEST


def test_requests_of_very_many_fields_are_refused(monkeypatch):
    monkeypatch.setattr(messages, "MAX_FIELDS", 3)
    assert parse_predictions_request(b"\x1a\x00" * 3).inputs == {"": b""}
    with pytest.raises(CallerError, match="more than 3 fields"):
        parse_predictions_request(b"\x1a\x00" * 4)
    group = b"\x2b" + b"\x08\x00" * 2 + b"\x2c"
    assert parse_predictions_request(group).inputs == {}
    with pytest.raises(CallerError, match="more than 3 fields"):
        parse_predictions_request(group + b"\x1a\x00")


def test_a_ping_is_answered_in_torchserves_words():
    health = pb.TorchServeHealthResponse.FromString(encode_ping_response(True)).health
    assert health == '{\n  "status": "Healthy"\n}'
    assert json.loads(pb.TorchServeHealthResponse.FromString(encode_ping_response(False)).health)["status"] != "Healthy"


def test_the_last_prediction_of_a_response_is_the_one_that_counts_and_is_replaced():
    first, last = (pb.PredictionResponse(prediction=each).SerializeToString() for each in (b"one", b"two"))
    unknown, not_one = b"\x78\x07", b"\x08\x05"  # field 15; field 1 as a number, which protobuf does not know
    content = unknown + first + not_one + last + unknown
    assert parse_prediction(content) == b"two"
    assert with_prediction(content, b"three!") == unknown + first + not_one + b"\x0a\x06three!" + unknown
    with pytest.raises(UpstreamError) as caught:
        parse_prediction(b"\x0a\x05x")
    assert caught.value.reason is Reason.UPSTREAM_MALFORMED
    with pytest.raises(ValueError, match="no such field"):
        with_prediction(unknown, b"")


@pytest.mark.parametrize("codec", [RAW, npy_codec(Keys("data"), SIGNATURE, None), JSON], ids=["raw", "npy", "json"])
def test_rows_go_in_and_out(codec):
    request = parse_predictions_request(encode_request("m", ROWS, codec))
    gated = read_request(request, codec, 2)
    np.testing.assert_array_equal(gated.inputs, ROWS)
    assert (request.model_name, gated.forward, gated.added_outputs) == ("m", request.content, frozenset())
    content = pb.PredictionResponse(prediction=codec.outputs.write(OUTPUTS)).SerializeToString()
    response = read_response(content, codec, 2)
    np.testing.assert_array_equal(response.outputs, OUTPUTS)
    moved = OUTPUTS.copy()
    moved[1, 2] = 7.5
    replaced = replace_outputs(response, moved, codec)
    np.testing.assert_array_equal(read_response(replaced, codec, 2).outputs, moved)
    assert replace_outputs(response, OUTPUTS, codec) == content


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, Reason.INPUT_MISSING),
        ({"body": b'{"r": [[1, 2]]}'}, Reason.INPUT_CONTENTS),
        ({"data": b'{"r": [[1, 2]]}', "body": b""}, Reason.INPUT_CONTENTS),
        ({"data": b'{"r": [[1, 2]]}', "": b""}, Reason.INPUT_CONTENTS),
        ({"data": b'{"q": [[1, 2]]}'}, Reason.INPUT_MISSING),
        ({"data": b'{"r": [[1]]}'}, Reason.INPUT_SHAPE),
        ({"data": b"r"}, Reason.INPUT_CONTENTS),
        ({"data": b'{"r": [[1, NaN]]}'}, Reason.INPUT_NOT_FINITE),
        ({"data": b'{"r": [[1, 3.5e38]]}'}, Reason.INPUT_NOT_FINITE),
        ({"data": b'{"r": [[1, 2], [1, 2], [1, 2]]}'}, Reason.INPUT_SHAPE),
    ],
    ids=str,
)
def test_requests_that_cannot_be_judged_are_refused(inputs, reason):
    with pytest.raises(CallerError) as caught:
        read_request(_request(**inputs), JSON, 2)
    assert caught.value.reason is reason


def test_a_key_that_the_settings_name_passes_unread():
    assert read_request(_request(data=b'{"r": [[1, 2]]}', meta=b"\xff"), JSON, 1).inputs.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        (b"", Reason.UPSTREAM_OUTPUT_CONTENTS),
        (b'{"s": [{"v": [1, 2, 3]}]}', Reason.UPSTREAM_OUTPUT_SHAPE),
        (b'{"s": [{"v": [1, 2, 3]}, {"v": [1, 2]}]}', Reason.UPSTREAM_OUTPUT_SHAPE),
        (b'{"s": [{"v": [1, 2, 3]}, {}]}', Reason.UPSTREAM_OUTPUT_MISSING),
        (b'{"code": 500}', Reason.UPSTREAM_OUTPUT_MISSING),
    ],
    ids=str,
)
def test_responses_that_cannot_be_judged_are_the_upstreams_fault(prediction, reason):
    with pytest.raises(UpstreamError) as caught:
        read_response(pb.PredictionResponse(prediction=prediction).SerializeToString(), JSON, 2)
    assert caught.value.reason is reason


def test_a_correction_that_does_not_decode_to_what_was_checked_is_not_sent():
    codec = json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"x": ("/r",)}, {"y": ("/s",)})
    response = read_response(pb.PredictionResponse(prediction=b'{"s": [[1, 2, 3]]}').SerializeToString(), codec, 1)
    with pytest.raises(InternalError):
        replace_outputs(response, np.array([[1.0, 2.0, 0.1]]), codec)  # 0.1 is no FP32


def test_outputs_are_judged_as_the_client_reads_them():
    for client, value in ((Datatype.FP32, float(np.float32(0.1))), (Datatype.FP64, 0.1)):
        codec = json_codec(Keys("data"), SIGNATURE, client, {"x": ("/r",)}, {"y": ("/s",)})
        assert [spec.datatype for spec in codec.signature.outputs] == [client]
        assert codec.signature.inputs == SIGNATURE.inputs
        answer = pb.PredictionResponse(prediction=b'{"s": [[0.1, 0, 0]]}').SerializeToString()
        assert read_response(answer, codec, 1).outputs[0, 0] == value


TWO = ModelSignature((TensorSpec("a", Datatype.FP32, ()), TensorSpec("b", Datatype.FP32, ())), SIGNATURE.outputs, 0)
HALF = ModelSignature((TensorSpec("x", Datatype.BF16, (2,)),), SIGNATURE.outputs, 0)
WHOLE = ModelSignature(SIGNATURE.inputs, (TensorSpec("y", Datatype.INT64, (1,)),), 0)
SINGLE = SIGNATURE.with_batch_axis(None)
Y = {"y": ("/s",)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: raw_codec(Keys("data"), TWO, None), "one input tensor, the bundle guards a, b"),
        (lambda: npy_codec(Keys("data"), TWO, None), "one input tensor"),
        (lambda: raw_codec(Keys("data"), WHOLE, Datatype.FP32), "'y' is INT64: whole numbers"),
        (lambda: json_codec(Keys("data"), WHOLE, Datatype.FP64, {"x": ("/r",)}, Y), "'y' is INT64: whole numbers"),
        (lambda: npy_codec(Keys("data"), HALF, None), "BF16"),
        (lambda: npy_codec(Keys("data"), SIGNATURE, Datatype.BF16), "'y' is BF16"),
        (lambda: json_codec(Keys("data"), HALF, Datatype.FP32, {"x": ("/r",)}, Y), "'x' is BF16: use raw"),
        (lambda: json_codec(Keys("data"), SIGNATURE, Datatype.FP16, {"x": ("/r",)}, Y), "'y' is FP16"),
        (lambda: json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"z": ("/r",)}, Y), "places for z; expected x"),
        (lambda: json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"x": ("/r",)}, {}), "places for nothing"),
        (lambda: json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"x": ("/a/*",) * 2}, Y), "same place twice"),
        (lambda: json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"x": ("/a/*", "/b/*", "/c/*")}, Y), "3 places"),
        (lambda: json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"x": ("/a/*", "/b")}, Y), "needs a *"),
        (lambda: json_codec(Keys("data"), SINGLE, Datatype.FP32, {"x": ("/a/*",)}, Y), "one row only"),
        (lambda: json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"x": ("a",)}, Y), "from the top"),
    ],
)
def test_settings_that_do_not_fit_the_tensors_are_told(make, words):
    with pytest.raises(ValueError, match=words.replace("*", r"\*")):
        make()


def _infer(**fields) -> infer_pb.ModelInferRequest:
    request = infer_pb.ModelInferRequest(model_name="m", **fields)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    return request


def test_a_request_without_an_id_gets_one_and_one_with_an_id_keeps_it():
    content = _infer().SerializeToString()
    request = parse_infer_request(content)
    assert not has_id(request)
    assert request.content.startswith(content)
    assert infer_pb.ModelInferRequest.FromString(request.content) == _infer(id="gate")
    gated = read_infer_request(request, SIGNATURE, 1)
    assert (gated.inputs.tolist(), gated.forward) == ([[1, 2]], request.content)
    content = _infer(id="7").SerializeToString()
    request = parse_infer_request(content)
    assert (has_id(request), request.content) == (True, content)


def test_raw_contents_which_the_server_drops_are_refused():
    message = _infer(raw_input_contents=[bytes(8)])
    message.inputs[0].ClearField("contents")
    with pytest.raises(CallerError, match="send typed contents") as caught:
        read_infer_request(parse_infer_request(message.SerializeToString()), SIGNATURE, 1)
    assert caught.value.reason is Reason.INPUT_CONTENTS


def test_an_id_of_ours_is_taken_out_of_the_answer_and_nothing_else():
    before, after = b"\x0a\x01m", b"\x18\x05\x78\x01"  # field 3 as a number, which protobuf does not know; field 15
    assert without_id(before + b"\x1a\x01a" + after + b"\x1a\x04gate") == before + after
    assert without_id(before) == before
    with pytest.raises(UpstreamError):
        without_id(b"\x0a\x05")


@pytest.mark.parametrize("batch_axis", [0, None])
def test_a_request_of_our_own_reads_as_the_row_that_it_was_made_of(batch_axis):
    inputs = (TensorSpec("a", Datatype.FP64, (1,)), TensorSpec("b", Datatype.FP32, (2,)))
    inputs += (TensorSpec("c", Datatype.BOOL, ()), TensorSpec("d", Datatype.INT8, (1,)))
    signature = ModelSignature(inputs, SIGNATURE.outputs, batch_axis)
    request = parse_infer_request(encode_infer_request("m", np.array([[0.1, 1.5, 2.0, 1.0, -7.0]]), signature))
    assert has_id(request)
    assert read_infer_request(request, signature, 1).inputs.tolist() == [[0.1, 1.5, 2.0, 1.0, -7.0]]


def test_datatypes_that_have_raw_contents_only_cannot_be_served_by_that_service():
    require_typed(SIGNATURE)
    with pytest.raises(ValueError, match="'x' is BF16, which has no typed contents"):
        require_typed(HALF)


def test_an_entry_that_only_other_readers_would_read_is_refused():
    entry = b"\x0a\x04data\x12\x01x"
    plain = pb.PredictionsRequest(model_name="m", input={"data": b"seen"}).SerializeToString()
    hidden = plain + b"\x1a" + bytes([len(entry) + 2]) + entry + b"\x18\x01"
    assert pb.PredictionsRequest.FromString(hidden).input["data"] == b"seen", "here the runtime sets it aside"
    with pytest.raises(CallerError, match="besides key and value") as caught:
        parse_predictions_request(hidden)
    assert caught.value.reason is Reason.MALFORMED_REQUEST
