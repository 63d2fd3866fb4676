"""A request of ours for one row of a model that TorchServe serves, by which is seen whether it answers."""

from typing import Any

from sidecar.protocols.torchserve import codec as predictions
from sidecar.protocols.torchserve import open_inference
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.dialects import TORCHSERVE, TORCHSERVE_OPEN_INFERENCE, Dialect


def trial(bundle: ActiveBundle) -> tuple[Dialect[Any, Any], bytes]:
    """How to ask, and the request: the bundle's first self-test vector."""
    row = bundle.bundle.vectors.inputs[:1]
    if bundle.codec is None:
        return TORCHSERVE_OPEN_INFERENCE, open_inference.encode_infer_request(bundle.model_name, row, bundle.signature)
    return TORCHSERVE, predictions.encode_request(bundle.model_name, row, bundle.codec)
