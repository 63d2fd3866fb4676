"""What happens to a request for a model that has no active bundle, as a pure function.

Where a bundle may still come that guards it, nobody may take it for unguarded. Where none will, it is denied, or
passed if the settings say so. Names that some server might take for another model's are never passed: what passes here
is looked at by no gate.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable
from typing import Final, Literal

from sidecar.config import Unguarded
from sidecar.errors import Reason
from sidecar.proxy.active_bundle import ActiveModels
from sidecar.proxy.events import Refusal, RequestOutcome

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
"""No paths, no blanks, no letters that look like others: a server may fold them, and mean a guarded model then."""


@dataclasses.dataclass(frozen=True)
class Passage:
    """A request that goes its way, and its answer, without being judged.

    Args:
        outcome: UNGUARDED, or BYPASSED where the model has no active bundle and its failure mode is open.
        model_name: the model asked for; where bypassed, one that the settings name.
        why: what a client of a model with other settings would get.
        restore: what makes of the response the one to what the client sent, where the upstream got something else.
    """

    outcome: Literal[RequestOutcome.UNGUARDED, RequestOutcome.BYPASSED]
    model_name: str
    why: Refusal
    restore: Callable[[bytes], bytes] | None = None


def without_bundle(model_name: str, models: ActiveModels) -> Passage | Refusal:
    """What becomes of a request for a model without an active bundle."""
    if not models.bundles or models.awaited or models.failing:
        why = Refusal(Reason.NOT_READY, _not_yet(model_name, models))
        return Passage(RequestOutcome.BYPASSED, model_name, why) if model_name in models.open_models else why
    guarded = ", ".join(sorted(models.bundles))
    why = Refusal(
        Reason.MODEL_NOT_GUARDED, f"no gate bundle is active for model {model_name!r}; guarded models: {guarded}"
    )
    if models.unguarded is Unguarded.DENY:
        return why
    if not _PLAIN_NAME.fullmatch(model_name):
        text = f"model name {model_name!r} is not passed: only letters, digits and ._- are, up to 200 of them"
        return Refusal(Reason.MODEL_NOT_GUARDED, text)
    if alike := next((name for name in models.bundles if _folded(name) == _folded(model_name)), None):
        text = f"model {model_name!r} is not passed: its name can be taken for that of {alike!r}, which is guarded"
        return Refusal(Reason.MODEL_NOT_GUARDED, text)
    return Passage(RequestOutcome.UNGUARDED, model_name, why)


def _not_yet(model_name: str, models: ActiveModels) -> str:
    if not models.bundles and not models.awaited:
        return "no gate bundle is active"
    return f"model {model_name!r} may be guarded once there is a good bundle at {(*models.awaited, *models.failing)}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()
