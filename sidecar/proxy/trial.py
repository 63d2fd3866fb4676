"""A request of ours for one row of a model, in the dialect in which the model is served."""

from typing import Any

from sidecar.config import PredictionFormat
from sidecar.protocols.open_inference import client
from sidecar.protocols.torchserve import codec as predictions
from sidecar.protocols.torchserve import open_inference
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.dialects import OPEN_INFERENCE, TORCHSERVE, TORCHSERVE_OPEN_INFERENCE, Dialect


def trial(bundle: ActiveBundle, vector: int) -> tuple[Dialect[Any, Any], bytes]:
    """How to ask, and the request: one of the bundle's self-test vectors."""
    name, row = bundle.model_name, bundle.bundle.vectors.inputs[vector : vector + 1]
    if bundle.codec is not None:
        return TORCHSERVE, predictions.encode_request(name, row, bundle.codec)
    served = bundle.policy.torchserve
    if served is not None and served.format is PredictionFormat.OPEN_INFERENCE:
        return TORCHSERVE_OPEN_INFERENCE, open_inference.encode_infer_request(name, row, bundle.signature)
    return OPEN_INFERENCE, client.encode_infer_request(name, row, bundle.signature)
