"""What the person who compiles decides."""

import dataclasses

from sidecar.bundle.values import Arithmetic
from sidecar.gates.values import Action


@dataclasses.dataclass(frozen=True)
class CompileOptions:
    """What the person who compiles decides.

    Args:
        name: the served model's name; None takes the property file's, then the ONNX file's stem.
        revision: of the bundle, >= 1.
        action: overrides every property's action; not ``fallback``, which needs values. None keeps them.
        time_limit_seconds: for all searches together; None for no limit.
        max_regions: boxes bounded at most, per search in order (one number serves all); None for no limit.
        minimum_volume: share of a region's box below which an undecided leaf stays open.
        model_versions: of the served model, that are this one; none makes no distinction.
        certify: make a certificate, and leave open what cannot be proved with it.
        workers: processes that find its hints, and check it.
        resumable: keep where searches are that the time limit stops.
        arithmetic: of the served model; None takes the IEEE arithmetic of its tensors' datatype.
    """

    name: str | None = None
    revision: int = 1
    action: Action | None = None
    time_limit_seconds: float | None = 60.0
    max_regions: tuple[int, ...] | None = None
    minimum_volume: float = 1e-6
    model_versions: tuple[str, ...] = ()
    certify: bool = True
    workers: int = 1
    resumable: bool = False
    arithmetic: Arithmetic | None = None
