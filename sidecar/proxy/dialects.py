"""The ways in which services carry rows: each is a method and the few functions of a codec that the request path needs.

What a model's messages look like is said by its settings, so a codec's functions get its active bundle. A model speaks
one dialect; its rows in another one could not be read, and such a request is refused like any that cannot be judged.
"""

import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from sidecar.errors import CallerError, Reason
from sidecar.protocols.open_inference import request as open_inference_request
from sidecar.protocols.open_inference import response as open_inference_response
from sidecar.protocols.open_inference.request import Asked, GatedRequest, InferRequest
from sidecar.protocols.open_inference.response import GatedResponse
from sidecar.protocols.torchserve import codec as torchserve
from sidecar.protocols.torchserve import open_inference as torchserve_open_inference
from sidecar.protocols.torchserve.codec import GatedPrediction, PredictionCodec
from sidecar.protocols.torchserve.messages import PredictionsRequest, parse_predictions_request
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.methods import MODEL_INFER, PREDICTIONS, STREAM_PREDICTIONS, TORCHSERVE_MODEL_INFER
from sidecar.tensors import Rows


class Request(Protocol):
    """A parsed request: the bytes to forward, and the model asked for."""

    @property
    def content(self) -> bytes:
        """What the upstream is to get: as received, but for what it cannot do without."""

    @property
    def model_name(self) -> str:
        """As the client wrote it."""


class Response(Protocol):
    """A response that can be judged."""

    @property
    def outputs(self) -> Rows:
        """float64 (row, output)."""

    @property
    def model_version(self) -> str:
        """As the upstream says; empty where it does not."""


_Request = TypeVar("_Request", bound=Request)
_Response = TypeVar("_Response", bound=Response)


@dataclasses.dataclass(frozen=True)
class Dialect(Generic[_Request, _Response]):
    """How a service carries rows.

    Args:
        method: that asks for them, as on the wire.
        parse: a request's bytes; raises CallerError.
        read_request: its rows, at most so many; raises CallerError.
        read_response: the rows of a response to so many; raises UpstreamError.
        replace_outputs: a response with other rows; raises InternalError.
        restore: for a request, what makes of the upstream's response the one to what the client sent (raises
            UpstreamError), where these differ.
        asked: what an answer has to repeat of a request, or to have.
        read_what_can_be: of a response that ``read_response`` refuses, see
            :func:`sidecar.protocols.open_inference.response.read_what_can_be`; None where that is nothing.
        answers_alone: whether an answer can be made without the upstream.
        tells_errors: whether the upstream's own words in an error are meant for clients.
    """

    method: str
    parse: Callable[[bytes], _Request]
    read_request: Callable[[_Request, ActiveBundle, int], GatedRequest]
    read_response: Callable[[bytes, ActiveBundle, int], _Response]
    replace_outputs: Callable[[_Response, Rows, ActiveBundle], bytes]
    restore: Callable[[_Request], Callable[[bytes], bytes] | None]
    asked: Callable[[_Request], Asked]
    read_what_can_be: Callable[[bytes, ActiveBundle, int], tuple[Rows, npt.NDArray[np.bool_]]] | None = None
    answers_alone: bool = False
    tells_errors: bool = True


def _as_it_is(_: Request) -> None:
    """The upstream gets what the client sent."""


def _read_infer_request(request: InferRequest, bundle: ActiveBundle, limit_rows: int) -> GatedRequest:
    _require_infer(bundle)
    return open_inference_request.read_request(request, bundle.signature, limit_rows)


def _read_torchserve_infer_request(request: InferRequest, bundle: ActiveBundle, limit_rows: int) -> GatedRequest:
    _require_infer(bundle)
    return torchserve_open_inference.read_infer_request(request, bundle.signature, limit_rows)


def _require_infer(bundle: ActiveBundle) -> None:
    if bundle.codec is not None:
        raise CallerError(
            Reason.METHOD_DENIED,
            f"model {bundle.model_name!r} is set up for TorchServe's Predictions; its rows are not read in ModelInfer",
        )


def _without_our_id(request: InferRequest) -> Callable[[bytes], bytes] | None:
    return None if torchserve_open_inference.has_id(request) else torchserve_open_inference.without_id


def _read_infer_response(content: bytes, bundle: ActiveBundle, count: int) -> GatedResponse:
    return open_inference_response.read_response(content, bundle.signature, count)


def _read_what_can_be(content: bytes, bundle: ActiveBundle, count: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    return open_inference_response.read_what_can_be(content, bundle.signature, count)


def _asked_of_predictions(request: PredictionsRequest) -> Asked:
    return Asked(request.model_name, request.model_version)


def _replace_infer_outputs(response: GatedResponse, outputs: Rows, bundle: ActiveBundle) -> bytes:
    return open_inference_response.replace_outputs(response, outputs, bundle.signature)


def _read_predictions_request(request: PredictionsRequest, bundle: ActiveBundle, limit_rows: int) -> GatedRequest:
    return torchserve.read_request(request, _codec(bundle), limit_rows)


def _read_prediction(content: bytes, bundle: ActiveBundle, count: int) -> GatedPrediction:
    return torchserve.read_response(content, _codec(bundle), count)


def _replace_prediction(response: GatedPrediction, outputs: Rows, bundle: ActiveBundle) -> bytes:
    return torchserve.replace_outputs(response, outputs, _codec(bundle))


def _codec(bundle: ActiveBundle) -> PredictionCodec:
    if bundle.codec is None:
        raise CallerError(
            Reason.METHOD_DENIED,
            f"no setting says how Predictions carry the rows of model {bundle.model_name!r}: see models, torchserve",
        )
    return bundle.codec


OPEN_INFERENCE: Final = Dialect(
    MODEL_INFER,
    open_inference_request.parse_request,
    _read_infer_request,
    _read_infer_response,
    _replace_infer_outputs,
    _as_it_is,
    open_inference_request.asked_of,
    _read_what_can_be,
    answers_alone=True,
)

TORCHSERVE_OPEN_INFERENCE: Final = Dialect(
    TORCHSERVE_MODEL_INFER,
    torchserve_open_inference.parse_infer_request,
    _read_torchserve_infer_request,
    _read_infer_response,
    _replace_infer_outputs,
    _without_our_id,
    open_inference_request.asked_of,
    _read_what_can_be,
    tells_errors=False,
)

TORCHSERVE: Final = Dialect(
    PREDICTIONS,
    parse_predictions_request,
    _read_predictions_request,
    _read_prediction,
    _replace_prediction,
    _as_it_is,
    _asked_of_predictions,
    tells_errors=False,
)

STREAMED_TORCHSERVE: Final = dataclasses.replace(TORCHSERVE, method=STREAM_PREDICTIONS)
"""Each message of the answer carries all of the request's rows."""

DIALECTS: Final = MappingProxyType[str, Dialect[Any, Any]](
    {dialect.method: dialect for dialect in (OPEN_INFERENCE, TORCHSERVE_OPEN_INFERENCE, TORCHSERVE)}
)
"""By method."""
