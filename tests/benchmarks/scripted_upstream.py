"""An upstream whose every answer row is what the request's id says: five scores, separated by commas.

Usage: python scripted_upstream.py LISTEN
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc
import grpc.aio
import numpy as np

from sidecar.protocols.generated import open_inference_pb2 as messages

UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def answer(content: bytes) -> bytes:
    """The scores, for as many rows as there are in the request."""
    request = messages.ModelInferRequest.FromString(content)
    rows = request.inputs[0].shape[0]
    scores = np.array([request.id.split(",")] * rows, dtype="<f4")
    response = messages.ModelInferResponse(model_name=request.model_name, raw_output_contents=[scores.tobytes()])
    response.outputs.add(name="scores", datatype="FP32", shape=scores.shape)
    return response.SerializeToString()


class _Handlers(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        method = handler_call_details.method.rpartition("/")[2]

        async def handle(request: bytes, context) -> bytes:
            if method == "ModelInfer":
                return answer(request)
            if method != "ModelReady":
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method here")
            return messages.ModelReadyResponse(ready=True).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)


async def main(listen: str) -> None:
    """Serves until it is ended."""
    server = grpc.aio.server(handlers=[_Handlers()], options=(("grpc.so_reuseport", 0), *UNLIMITED))
    server.add_insecure_port(listen)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
