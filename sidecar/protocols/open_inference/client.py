"""What a client says and hears: a ModelInfer request made from rows, and the answer to ServerReady.

For programs of ours that play the client, such as the demonstration. The bytes are what any other client of
the protocol sends: the input tensors raw, no outputs named, no parameters.

Source: Open Inference Protocol v2, "ModelInfer" and "ServerReady".
"""

import numpy as np
from google.protobuf.message import DecodeError

from sidecar.errors import Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.tensors import ModelSignature, Rows, encode_raw


def encode_infer_request(model_name: str, inputs: Rows, signature: ModelSignature) -> bytes:
    """A ModelInfer request.

    Args:
        model_name: the served model.
        inputs: float64 (row, input), values that the datatypes represent; one row where there is no batch axis.
        signature: the model's tensors.

    Raises:
        ValueError: the rows do not fit the signature.
    """
    if inputs.shape[1] != signature.input_size or (signature.batch_axis is None and len(inputs) != 1):
        raise ValueError(f"rows of shape {inputs.shape} do not fit {signature}")
    request = pb.ModelInferRequest(model_name=model_name)
    edges = np.cumsum([spec.row_size for spec in signature.inputs])
    for spec, columns in zip(signature.inputs, np.split(inputs, edges[:-1], axis=1), strict=True):
        rows = () if signature.batch_axis is None else (len(inputs),)
        tensor = request.inputs.add(name=spec.name, datatype=spec.datatype)
        tensor.shape.extend((*rows, *spec.row_shape))
        request.raw_input_contents.append(encode_raw(columns.reshape(-1), spec.datatype))
    return request.SerializeToString()


def decode_server_ready(content: bytes) -> bool:
    """Whether a ServerReady response says that the server is ready.

    Raises:
        UpstreamError: the bytes are no such message.
    """
    try:
        return pb.ServerReadyResponse.FromString(content).ready
    except DecodeError as error:
        raise UpstreamError(Reason.UPSTREAM_MALFORMED, "the answer is no ServerReadyResponse") from error
