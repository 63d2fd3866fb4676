"""KServe's data plane, servicer, interceptors and limits, put together as its ModelServer does it, without HTTP.

ModelServer itself cannot be told which address to listen on: it takes every one. This file runs in KServe's
environment, not in ours: `server.py <port> <name>=<model.onnx> ...`; a model that ends in `.py` is the reader of a
script, see `scripted_model`.
"""

import asyncio
import signal
import sys

import onnxruntime
from grpc import aio
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.constants.constants import MAX_GRPC_MESSAGE_LENGTH
from kserve.logging import configure_logging
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor, LoggingInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from scripted_model import ScriptedModel

_DATATYPES = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(float16)": "FP16"}
GRACE_SECONDS = 5


def _described(tensors):
    return [
        {
            "name": tensor.name,
            "datatype": _DATATYPES[tensor.type],
            "shape": [size if isinstance(size, int) else -1 for size in tensor.shape],
        }
        for tensor in tensors
    ]


class OnnxModel(Model):
    def __init__(self, name: str, path: str):
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def get_input_types(self):
        return _described(self.session.get_inputs())

    def get_output_types(self):
        return _described(self.session.get_outputs())

    def predict(self, payload: InferRequest, _headers=None, _response_headers=None) -> InferResponse:
        arrays = self.session.run(None, {tensor.name: tensor.as_numpy() for tensor in payload.inputs})
        outputs = []
        for tensor, array in zip(self.get_output_types(), arrays, strict=True):
            output = InferOutput(name=tensor["name"], shape=list(array.shape), datatype=tensor["datatype"])
            output.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(
            response_id=payload.id,
            model_name=self.name,
            infer_outputs=outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


def _model(name: str, path: str) -> Model:
    return ScriptedModel(name, path) if path.endswith(".py") else OnnxModel(name, path)


async def serve(port: int, models: list[Model]) -> None:
    repository = ModelRepository()
    for model in models:
        repository.update(model)
    limits = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    server = aio.server(
        interceptors=(LoggingInterceptor(), ExceptionToStatusInterceptor()),
        options=[("grpc.so_reuseport", 0), *((limit, MAX_GRPC_MESSAGE_LENGTH) for limit in limits)],
    )
    servicer = InferenceServicer(DataPlane(model_registry=repository), ModelRepositoryExtension(repository))
    grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(GRACE_SECONDS)


if __name__ == "__main__":
    configure_logging()
    asyncio.run(serve(int(sys.argv[1]), [_model(*word.split("=", 1)) for word in sys.argv[2:]]))
