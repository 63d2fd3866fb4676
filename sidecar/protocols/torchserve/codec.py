"""A model's predictions: from messages to the rows that gates judge, and changed rows back into messages.

What a handler makes of the bytes under a key is its own affair; a codec says it to us. The codec's signature is the
bundle's, with the outputs in the datatypes in which clients read them: it is these values that are judged.

Keys besides the codec's own are refused unless they are named: TorchServe's own handlers look under `data` and then
under `body`, and a gate that looks under one of them would judge other rows than the handler gets.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np

from sidecar.errors import CallerError, InternalError, Reason, UpstreamError
from sidecar.protocols.open_inference.contents import Defect, TensorDefect, changed_values
from sidecar.protocols.open_inference.request import GatedRequest, refuse_non_finite, refuse_too_many_rows
from sidecar.protocols.torchserve.json_numbers import DATATYPES as JSON_DATATYPES
from sidecar.protocols.torchserve.json_paths import EVERY, Path, parse_path
from sidecar.protocols.torchserve.json_side import JsonPlace, JsonSide
from sidecar.protocols.torchserve.messages import (
    PredictionsRequest,
    encode_predictions_request,
    parse_prediction,
    with_prediction,
)
from sidecar.protocols.torchserve.npy import DESCRIPTIONS, NpySide
from sidecar.protocols.torchserve.raw import RawSide
from sidecar.protocols.torchserve.side import Side
from sidecar.tensors import FLOATING_DATATYPES, Datatype, ModelSignature, Rows, TensorSpec

_INPUT_REASON: Final[dict[Defect, Reason]] = {
    Defect.MISSING: Reason.INPUT_MISSING,
    Defect.DUPLICATE: Reason.INPUT_DUPLICATE,
    Defect.DATATYPE: Reason.INPUT_DATATYPE,
    Defect.SHAPE: Reason.INPUT_SHAPE,
    Defect.CONTENTS: Reason.INPUT_CONTENTS,
}

_OUTPUT_REASON: Final[dict[Defect, Reason]] = {
    Defect.MISSING: Reason.UPSTREAM_OUTPUT_MISSING,
    Defect.DUPLICATE: Reason.UPSTREAM_MALFORMED,
    Defect.DATATYPE: Reason.UPSTREAM_OUTPUT_DATATYPE,
    Defect.SHAPE: Reason.UPSTREAM_OUTPUT_SHAPE,
    Defect.CONTENTS: Reason.UPSTREAM_OUTPUT_CONTENTS,
}


@dataclasses.dataclass(frozen=True)
class Keys:
    """Of a request's map.

    Args:
        own: under which the rows are.
        others: under which there may be something else, which nobody looks at here.
    """

    own: str
    others: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class PredictionCodec:
    """How a model's rows travel.

    Args:
        keys: of requests.
        inputs, outputs: the two payloads.
        signature: the tensors as they are on the wire; outputs as clients read them.
    """

    keys: Keys
    inputs: Side
    outputs: Side
    signature: ModelSignature


@dataclasses.dataclass(frozen=True, eq=False)
class GatedPrediction:
    """A response that can be judged.

    Args:
        content: the bytes as received.
        prediction: what it carries.
        outputs: float64 (row, output); may hold NaN and infinity.
    """

    content: bytes
    prediction: bytes
    outputs: Rows

    @property
    def model_version(self) -> str:
        """Predictions do not say."""
        return ""


def raw_codec(keys: Keys, signature: ModelSignature, client: Datatype | None) -> PredictionCodec:
    """For values without anything around them.

    ``client`` is the datatype of the answer's values, where it is another one than the signature's; so for the others.

    Raises:
        ValueError: the format cannot carry the tensors.
    """
    seen = _as_read(signature, client)
    _require_one_tensor("raw", seen)
    batched = seen.batch_axis is not None
    return PredictionCodec(keys, RawSide(seen.inputs[0], batched), RawSide(seen.outputs[0], batched), seen)


def npy_codec(keys: Keys, signature: ModelSignature, client: Datatype | None) -> PredictionCodec:
    """For .npy files. Raises ValueError as :func:`raw_codec`."""
    seen = _as_read(signature, client)
    _require_one_tensor("npy", seen)
    _require_datatypes("npy", seen, tuple(DESCRIPTIONS))
    batched = seen.batch_axis is not None
    return PredictionCodec(keys, NpySide(seen.inputs[0], batched), NpySide(seen.outputs[0], batched), seen)


def json_codec(
    keys: Keys,
    signature: ModelSignature,
    client: Datatype,
    inputs: Mapping[str, tuple[str, ...]],
    outputs: Mapping[str, tuple[str, ...]],
) -> PredictionCodec:
    """For JSON documents.

    ``inputs`` and ``outputs`` give each tensor's paths. Raises ValueError as :func:`raw_codec`; or the paths do not fit
    the tensors.
    """
    seen = _as_read(signature, client)
    _require_datatypes("json", seen, JSON_DATATYPES)
    batched = seen.batch_axis is not None
    return PredictionCodec(
        keys,
        JsonSide(_places("inputs", seen.inputs, inputs, batched), batched),
        JsonSide(_places("outputs", seen.outputs, outputs, batched), batched),
        seen,
    )


def _as_read(signature: ModelSignature, client: Datatype | None) -> ModelSignature:
    if client is None:
        return signature
    for spec in signature.outputs:
        if spec.datatype not in FLOATING_DATATYPES:
            raise ValueError(
                f"output {spec.name!r} is {spec.datatype}: whole numbers are not read as another datatype; leave "
                "client_datatype out, with format raw or npy"
            )
    outputs = tuple(dataclasses.replace(spec, datatype=client) for spec in signature.outputs)
    return dataclasses.replace(signature, outputs=outputs)


def _require_one_tensor(kind: str, signature: ModelSignature) -> None:
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        if len(specs) != 1:
            names = ", ".join(spec.name for spec in specs)
            raise ValueError(f"format {kind} carries one {side} tensor, the bundle guards {names}; use json")


def _require_datatypes(kind: str, signature: ModelSignature, known: tuple[Datatype, ...]) -> None:
    for spec in (*signature.inputs, *signature.outputs):
        if spec.datatype not in known:
            raise ValueError(
                f"format {kind} carries {', '.join(known)}; tensor {spec.name!r} is {spec.datatype}: use raw"
            )


def _places(
    side: str, specs: tuple[TensorSpec, ...], paths: Mapping[str, tuple[str, ...]], batched: bool
) -> tuple[JsonPlace, ...]:
    names = [spec.name for spec in specs]
    if sorted(names) != sorted(paths):
        raise ValueError(f"{side} has places for {', '.join(paths) or 'nothing'}; expected {', '.join(names)}")
    found = tuple(JsonPlace(spec, _paths(spec, paths[spec.name], batched)) for spec in specs)
    every = [path for place in found for path in place.paths]
    if len(set(every)) != len(every):
        raise ValueError(f"{side} has the same place twice; give each tensor, or each of its values, one of its own")
    return found


def _paths(spec: TensorSpec, texts: tuple[str, ...], batched: bool) -> tuple[Path, ...]:
    paths = tuple(parse_path(text) for text in texts)
    if len(paths) not in (1, spec.row_size):
        raise ValueError(f"tensor {spec.name!r} has {len(paths)} places; give one, or one for each of {spec.row_size}")
    if batched and len(paths) == 1 and EVERY not in paths[0]:
        paths = ((*paths[0], EVERY),)
    for text, path in zip(texts, paths, strict=True):
        if (EVERY in path) is not batched:
            wrong = f"needs a {EVERY} where the rows are" if batched else f"has a {EVERY}, and there is one row only"
            raise ValueError(f"tensor {spec.name!r}: place {text!r} {wrong}")
    return paths


def read_request(request: PredictionsRequest, codec: PredictionCodec, limit_rows: int) -> GatedRequest:
    """Read the rows of a request; at most ``limit_rows``.

    Raises:
        CallerError: the request cannot be judged as it is; each cause has its own reason.
    """
    keys = codec.keys
    others = sorted(request.inputs.keys() - {keys.own} - keys.others)
    if others:
        raise CallerError(
            Reason.INPUT_CONTENTS,
            f"the request has inputs {others[:4]!r} besides {keys.own!r}, where the handler might look for its rows; "
            "leave them out, or have their keys named in the settings",
        )
    if keys.own not in request.inputs:
        raise CallerError(Reason.INPUT_MISSING, f"the request has no input {keys.own!r}")
    try:
        inputs = codec.inputs.read(request.inputs[keys.own])
    except TensorDefect as defect:
        raise CallerError(_INPUT_REASON[defect.defect], f"input {keys.own!r}: {defect.message}") from defect
    refuse_too_many_rows(len(inputs), limit_rows)
    refuse_non_finite(inputs, codec.signature)
    return GatedRequest(inputs, request.content, frozenset())


def read_response(content: bytes, codec: PredictionCodec, count: int) -> GatedPrediction:
    """Read the rows of a response to a request of ``count`` rows.

    Raises:
        UpstreamError: the response cannot be judged; each cause has its own reason.
    """
    prediction = parse_prediction(content)
    try:
        outputs = codec.outputs.read(prediction)
        if len(outputs) != count:
            raise TensorDefect(Defect.SHAPE, f"got {len(outputs)} rows, the request has {count}")
    except TensorDefect as defect:
        raise UpstreamError(_OUTPUT_REASON[defect.defect], f"upstream's prediction: {defect.message}") from defect
    return GatedPrediction(content, prediction, outputs)


def replace_outputs(response: GatedPrediction, outputs: Rows, codec: PredictionCodec) -> bytes:
    """The response with its values replaced where ``outputs`` differs from what it holds.

    ``outputs`` has the shape of ``response.outputs``; its changed values are representable in their datatype.

    Raises:
        InternalError: the new bytes do not decode to ``outputs``.
    """
    changed = changed_values(response.outputs, outputs).reshape(outputs.shape)
    replaced = with_prediction(response.content, codec.outputs.replace(response.prediction, changed, outputs))
    decoded = read_response(replaced, codec, len(outputs)).outputs
    if not np.array_equal(decoded, outputs, equal_nan=True):
        raise InternalError(Reason.INTERNAL, "the corrected prediction does not decode to the corrected rows")
    return replaced


def encode_request(model_name: str, rows: Rows, codec: PredictionCodec) -> bytes:
    """A request of our own with these rows, which are representable in their datatypes."""
    return encode_predictions_request(model_name, {codec.keys.own: codec.inputs.write(rows)})
