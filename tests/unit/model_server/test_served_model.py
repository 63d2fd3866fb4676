"""An ONNX file becomes a served model; a request becomes an answer or an error that says what would fit."""

import gzip

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sidecar.errors import CallerError, InputError, InternalError, Reason
from sidecar.model_server.model import infer, load_model, metadata
from sidecar.protocols.generated import open_inference_pb2 as messages


def _model_bytes(nodes, inputs, outputs):
    def infos(tensors):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in tensors]

    graph = helper.make_graph(nodes, "graph", infos(inputs), infos(outputs))
    opset = helper.make_opsetid("", 13)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def _sum_and_difference():
    """Two inputs (n, 3), two outputs: their sum and their difference."""
    tensors = {name: (name, TensorProto.FLOAT, ["n", 3]) for name in ("a", "b", "sum", "difference")}
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    inputs, outputs = [tensors["a"], tensors["b"]], [tensors["sum"], tensors["difference"]]
    return _model_bytes(nodes, inputs, outputs)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "arithmetic.onnx"
    path.write_bytes(_sum_and_difference())
    return load_model(path)


def _request(a=((1, 2, 3),), b=((4, 5, 6),), outputs=()):
    request = messages.ModelInferRequest(model_name="arithmetic")
    for name, values in (("a", a), ("b", b)):
        array = np.array(values, dtype="<f4")
        request.inputs.add(name=name, datatype="FP32", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    return request


def _values(response):
    return {
        output.name: np.frombuffer(raw, "<f4").reshape(tuple(output.shape)).tolist()
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def test_all_outputs_are_answered_where_none_is_named(model):
    assert _values(infer(model, _request())) == {"sum": [[5, 7, 9]], "difference": [[-3, -3, -3]]}


def test_requested_outputs_come_alone_and_in_the_order_asked(model):
    response = infer(model, _request(outputs=["difference", "sum"]))
    assert [output.name for output in response.outputs] == ["difference", "sum"]
    assert list(_values(infer(model, _request(outputs=["difference"])))) == ["difference"]


def test_the_order_of_inputs_does_not_matter(model):
    request = _request()
    swapped = messages.ModelInferRequest(inputs=list(request.inputs)[::-1])
    swapped.raw_input_contents.extend(list(request.raw_input_contents)[::-1])
    assert infer(model, swapped).raw_output_contents == infer(model, request).raw_output_contents


def test_typed_contents_are_answered_as_raw_ones_are(model):
    raw = _request()
    typed = messages.ModelInferRequest(inputs=raw.inputs)
    for tensor, values in zip(typed.inputs, ((1, 2, 3), (4, 5, 6)), strict=True):
        tensor.contents.fp32_contents.extend(values)
    assert infer(model, typed) == infer(model, raw)


def test_the_first_dimension_is_free_where_the_model_leaves_it_open(model):
    response = infer(model, _request(a=np.ones((4, 3)), b=np.ones((4, 3))))
    assert list(response.outputs[0].shape) == [4, 3]


def test_the_id_is_echoed_and_the_version_stated(model):
    request = _request()
    request.id = "seven"
    response = infer(model, request)
    assert (response.id, response.model_name, response.model_version) == ("seven", "arithmetic", "1")


def test_parameters_of_the_whole_request_are_let_pass(model):
    request = _request()
    request.parameters["priority"].int64_param = 1
    assert infer(model, request) == infer(model, _request())


def test_metadata_describes_tensors_and_open_dimensions(model):
    described = metadata(model)
    assert [(each.name, each.datatype, list(each.shape)) for each in described.inputs] == [
        ("a", "FP32", [-1, 3]),
        ("b", "FP32", [-1, 3]),
    ]
    assert [each.name for each in described.outputs] == ["sum", "difference"]


def _edited(edit):
    request = _request()
    edit(request)
    return request


@pytest.mark.parametrize(
    ("request_", "reason", "says"),
    [
        pytest.param(
            _edited(lambda r: r.inputs.add(name="a", datatype="FP32", shape=[1, 3])),
            Reason.INPUT_DUPLICATE,
            "twice",
            id="input twice",
        ),
        pytest.param(_edited(lambda r: r.inputs.pop()), Reason.INPUT_MISSING, "takes ['a', 'b']", id="input missing"),
        pytest.param(
            _edited(lambda r: setattr(r.inputs[1], "name", "c")), Reason.INPUT_MISSING, "'c'", id="unknown input"
        ),
        pytest.param(
            _edited(lambda r: r.raw_input_contents.pop()),
            Reason.INPUT_CONTENTS,
            "2 inputs with 1 raw",
            id="raw contents missing",
        ),
        pytest.param(
            _edited(lambda r: setattr(r.inputs[0], "datatype", "FP64")), Reason.INPUT_DATATYPE, "takes FP32", id="FP64"
        ),
        pytest.param(_request(a=[1, 2, 3]), Reason.INPUT_SHAPE, "takes [-1, 3]", id="another rank"),
        pytest.param(_request(a=[[1, 2]]), Reason.INPUT_SHAPE, "has shape [1, 2]", id="another size"),
        pytest.param(
            _edited(lambda r: r.inputs[0].shape.__setitem__(0, -1)), Reason.INPUT_SHAPE, "[-1, 3]", id="negative size"
        ),
        pytest.param(
            _edited(lambda r: r.inputs[0].parameters["shared_memory_region"].MergeFrom(messages.InferParameter())),
            Reason.SHARED_MEMORY,
            "shared_memory_region",
            id="shared memory",
        ),
        pytest.param(
            _edited(lambda r: r.inputs[0].parameters["scale"].MergeFrom(messages.InferParameter())),
            Reason.MALFORMED_REQUEST,
            "scale",
            id="tensor parameter",
        ),
        pytest.param(_request(outputs=["product"]), Reason.OUTPUT_UNKNOWN, "gives ['sum', 'difference']", id="output"),
        pytest.param(_request(outputs=["sum", "sum"]), Reason.MALFORMED_REQUEST, "twice", id="output twice"),
        pytest.param(
            _edited(
                lambda r: r.outputs.add(name="sum").parameters["classification"].MergeFrom(messages.InferParameter())
            ),
            Reason.CLASSIFICATION,
            "classification",
            id="classification",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_the_callers_fault(model, request_, reason, says):
    with pytest.raises(CallerError) as caught:
        infer(model, request_)
    assert caught.value.reason is reason
    assert says in caught.value.message


def test_what_onnxruntime_cannot_compute_is_our_fault(model):
    with pytest.raises(InternalError, match="onnxruntime failed"):
        infer(model, _request(a=np.ones((2, 3)), b=np.ones((3, 3))))


def test_integers_and_halves_are_served_too(tmp_path):
    for kind, datatype, dtype in ((TensorProto.INT64, "INT64", "<i8"), (TensorProto.FLOAT16, "FP16", "<f2")):
        path = tmp_path / f"{datatype}.onnx"
        tensor = ("x", kind, [2])
        path.write_bytes(_model_bytes([helper.make_node("Identity", ["x"], ["y"])], [tensor], [("y", kind, [2])]))
        request = messages.ModelInferRequest(raw_input_contents=[np.array([1, 2], dtype).tobytes()])
        request.inputs.add(name="x", datatype=datatype, shape=[2])
        response = infer(load_model(path), request)
        assert response.outputs[0].datatype == datatype
        assert response.raw_output_contents == request.raw_input_contents


def test_initialisers_among_the_graphs_inputs_are_not_asked_of_the_client(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "old",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "w")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")],
    )
    path = tmp_path / "old.onnx"
    path.write_bytes(
        helper.make_model(graph, ir_version=3, opset_imports=[helper.make_opsetid("", 8)]).SerializeToString()
    )
    assert [info.name for info in load_model(path).inputs] == ["x"]


def test_the_served_name_is_given_or_the_files_stem(tmp_path):
    plain, packed = tmp_path / "net.v2.onnx", tmp_path / "packed.onnx.gz"
    plain.write_bytes(_sum_and_difference())
    packed.write_bytes(gzip.compress(_sum_and_difference()))
    assert [load_model(plain).name, load_model(packed).name, load_model(plain, "other").name] == [
        "net.v2",
        "packed",
        "other",
    ]


@pytest.mark.parametrize("content", [b"", b"nonsense", _sum_and_difference()[:-40]], ids=["empty", "junk", "truncated"])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot serve .*broken\.onnx"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path):
    for name in ("absent.onnx", "absent.onnx.gz"):
        with pytest.raises(InputError, match=name):
            load_model(tmp_path / name)


def test_a_truncated_or_oversized_compressed_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(_sum_and_difference())[:-20])
    with pytest.raises(InputError, match="cannot read"):
        load_model(path)
    path.write_bytes(gzip.compress(_sum_and_difference()))
    monkeypatch.setattr("sidecar.model_server.model.MODEL_LIMIT_BYTES", 100)
    with pytest.raises(InputError, match="unfolds to more than 100 bytes"):
        load_model(path)


def test_a_tensor_that_is_not_served_is_named(tmp_path):
    path = tmp_path / "strings.onnx"
    tensors = [("x", TensorProto.STRING, [1])], [("y", TensorProto.STRING, [1])]
    path.write_bytes(_model_bytes([helper.make_node("Identity", ["x"], ["y"])], *tensors))
    with pytest.raises(InputError, match=r"'x' is tensor\(string\)"):
        load_model(path)
