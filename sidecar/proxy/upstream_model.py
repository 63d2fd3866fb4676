"""Does the upstream serve the model that a bundle guards? And if not, why: in words for who operates it.

Pure: from the upstream's answers to ModelReady and ModelMetadata to an obstacle, or none. What a server does not say
about its tensors is no obstacle, since every request and every answer is checked against the bundle all the same;
what contradicts the bundle is one, for no request could be served.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterable

import grpc

from sidecar.errors import UpstreamError
from sidecar.protocols.open_inference.model_metadata import ServedTensor, decode_model_metadata
from sidecar.protocols.open_inference.readiness import decode_model_ready
from sidecar.proxy.upstream import UpstreamFailure, UpstreamOutcome, UpstreamReply
from sidecar.tensors import ModelSignature, TensorSpec


class Cause(enum.Enum):
    """What kind of obstacle it is. The words of one kind may vary from one question to the next."""

    UNREACHABLE = enum.auto()
    NO_SUCH_SERVICE = enum.auto()
    UNKNOWN_MODEL = enum.auto()
    NOT_READY = enum.auto()
    OTHER_TENSORS = enum.auto()
    UNMATCHED = enum.auto()

    @property
    def is_absence(self) -> bool:
        """Whether what comes after it may be another model than before. A server too busy to answer has not left."""
        return self in (Cause.UNREACHABLE, Cause.UNKNOWN_MODEL, Cause.NOT_READY, Cause.OTHER_TENSORS)


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """Why a guarded model cannot be served.

    Args:
        cause: its kind.
        why: what was found, and what to do about it.
    """

    cause: Cause
    why: str


_TOKEN_WANTED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)

_GIVE_TOKEN = "give a token that it takes with --upstream-token: for TorchServe its key_file.json"  # noqa: S105 (none)

_RENAME = "serve it under this name, or name the served one with --bundle NAME=FILE"


def obstacle(
    model_name: str, signature: ModelSignature, ready: UpstreamOutcome, metadata: UpstreamOutcome
) -> Obstacle | None:
    """What stands between a bundle and its model, or None.

    Args:
        model_name: whose bundle it is.
        signature: the tensors that the bundle guards.
        ready: how the upstream's ModelReady ended.
        metadata: how its ModelMetadata ended.
    """
    if isinstance(ready, UpstreamFailure):
        return _of_failure(model_name, ready)
    try:
        is_ready = decode_model_ready(ready.body)
    except UpstreamError as error:
        return Obstacle(Cause.NO_SUCH_SERVICE, f"{error.message}; is --upstream an Open Inference gRPC server?")
    if not is_ready:
        return _of_not_ready(model_name, metadata)
    return _of_tensors(model_name, signature, metadata) if isinstance(metadata, UpstreamReply) else None


def obstacle_in_trial(model_name: str, outcome: UpstreamOutcome, read: Callable[[bytes], object]) -> Obstacle | None:
    """What stands between a bundle and a model whose server does not say whether it is ready, or None.

    Args:
        model_name: whose bundle it is.
        outcome: how a request of ours for its rows ended.
        read: reads them; raises UpstreamError.
    """
    if isinstance(outcome, UpstreamFailure):
        said = f"{outcome.code.name}: {outcome.details}"
        if not outcome.answered:
            return Obstacle(Cause.UNREACHABLE, f"the upstream does not answer ({said}); start it, or see its log")
        if outcome.code in _TOKEN_WANTED:
            return Obstacle(Cause.NOT_READY, f"TorchServe refuses a request of ours ({said}); {_GIVE_TOKEN}")
        return Obstacle(
            Cause.NOT_READY,
            f"TorchServe answers a request of ours with {said}; either it does not serve {model_name!r} under this "
            "name, or the torchserve settings do not say what its handler expects: see its log",
        )
    try:
        read(outcome.body)
    except UpstreamError as error:
        return Obstacle(
            Cause.OTHER_TENSORS,
            f"TorchServe's answer to a request of ours cannot be read: {error.message}; serve the model that was "
            "verified, or correct the torchserve settings",
        )
    return None


def _of_failure(model_name: str, failure: UpstreamFailure) -> Obstacle:
    said = f"{failure.code.name}: {failure.details}"
    if not failure.answered:
        return Obstacle(
            Cause.UNREACHABLE,
            f"the upstream cannot be reached ({said}); start it, or correct --upstream: its gRPC port",
        )
    if failure.code is grpc.StatusCode.NOT_FOUND:
        return _unknown(model_name, failure)
    if failure.code is grpc.StatusCode.UNAVAILABLE:
        return Obstacle(Cause.NOT_READY, f"the upstream is starting or stopping ({said}); wait, or see its log")
    if failure.code in _TOKEN_WANTED:
        return Obstacle(Cause.NOT_READY, f"the upstream refuses ModelReady ({said}); {_GIVE_TOKEN}")
    return Obstacle(
        Cause.NO_SUCH_SERVICE,
        f"the upstream answers ModelReady with {said}; "
        f"either it does not serve {model_name!r} under this name, or --upstream is no Open Inference gRPC port",
    )


def _of_not_ready(model_name: str, metadata: UpstreamOutcome) -> Obstacle:
    """Servers say "not ready" of a model that they are loading, and of one that they have never heard of."""
    if isinstance(metadata, UpstreamFailure) and metadata.code is grpc.StatusCode.NOT_FOUND:
        return _unknown(model_name, metadata)
    return Obstacle(
        Cause.NOT_READY,
        f"the upstream says that model {model_name!r} is not ready; wait, or see the model server's log",
    )


def _unknown(model_name: str, failure: UpstreamFailure) -> Obstacle:
    return Obstacle(
        Cause.UNKNOWN_MODEL, f"the upstream does not serve model {model_name!r} ({failure.details}); {_RENAME}"
    )


def _of_tensors(model_name: str, signature: ModelSignature, metadata: UpstreamReply) -> Obstacle | None:
    try:
        served = decode_model_metadata(metadata.body)
    except UpstreamError:
        return None
    batched = signature.batch_axis is not None
    for side, specs, tensors in (
        ("input", signature.inputs, served.inputs),
        ("output", signature.outputs, served.outputs),
    ):
        for spec in specs if tensors else ():
            if not any(_fits(spec, batched, tensor) for tensor in tensors):
                return Obstacle(
                    Cause.OTHER_TENSORS,
                    f"the upstream's model {model_name!r} is another one than the bundle guards: expected {side}"
                    f" {_expected(spec, batched)}, got {_listed(tensors)}; serve the model that was verified,"
                    " or compile a bundle for this one",
                )
    return None


def _fits(spec: TensorSpec, batched: bool, served: ServedTensor) -> bool:
    """Whether the description can be of this tensor. Some servers leave the batch axis out."""
    shapes = [spec.row_shape]
    if batched:
        shapes.append((served.shape[0] if served.shape else -1, *spec.row_shape))
    return (
        served.name == spec.name
        and served.datatype == spec.datatype
        and any(_shape_fits(shape, served.shape) for shape in shapes)
    )


def _shape_fits(expected: tuple[int, ...], served: tuple[int, ...]) -> bool:
    return len(served) == len(expected) and all(
        size in (-1, wanted) for size, wanted in zip(served, expected, strict=True)
    )


def _expected(spec: TensorSpec, batched: bool) -> str:
    return f"{spec.name} {spec.datatype} [{', '.join(map(str, (*(['rows'] if batched else []), *spec.row_shape)))}]"


def _listed(tensors: Iterable[ServedTensor]) -> str:
    return ", ".join(f"{each.name} {each.datatype} {list(each.shape)}" for each in tensors)
