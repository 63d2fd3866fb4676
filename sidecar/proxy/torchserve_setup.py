"""From a model's settings to the codec of its predictions."""

from typing import assert_never

from sidecar.config import PredictionFormat, TorchServeSettings
from sidecar.errors import BundleError, Reason
from sidecar.protocols.torchserve.codec import Keys, PredictionCodec, json_codec, npy_codec, raw_codec
from sidecar.protocols.torchserve.open_inference import require_typed
from sidecar.tensors import ModelSignature


def prediction_codec(
    settings: TorchServeSettings | None, signature: ModelSignature, model_name: str
) -> PredictionCodec | None:
    """How a model's predictions carry its rows; None where it is not asked for predictions.

    Raises:
        BundleError: the settings do not fit the bundle's tensors.
    """
    try:
        return None if settings is None else _codec(settings, signature)
    except ValueError as error:
        raise unfit(model_name, error) from error


def unfit(model_name: str, why: ValueError) -> BundleError:
    """The error for settings that do not fit a bundle."""
    text = f"the torchserve settings of model {model_name!r} do not fit the bundle: {why}"
    return BundleError(Reason.BUNDLE_CONFLICT, text)


def _codec(settings: TorchServeSettings, signature: ModelSignature) -> PredictionCodec | None:
    keys, client = Keys(settings.key, frozenset(settings.other_keys)), settings.client_datatype
    match settings.format:
        case PredictionFormat.JSON:
            if client is None:
                raise ValueError("format json needs a client_datatype")
            return json_codec(keys, signature, client, dict(settings.inputs), dict(settings.outputs))
        case PredictionFormat.NPY:
            return npy_codec(keys, signature, client)
        case PredictionFormat.RAW:
            return raw_codec(keys, signature, client)
        case PredictionFormat.OPEN_INFERENCE:
            require_typed(signature)
            return None
        case _:
            assert_never(settings.format)
