"""The bundles that requests are judged by: activation of one, and the set of all that are active.

Activation is accept -> prepare -> self-test -> one immutable value. Requests take the set once and keep
it to their end; a change replaces the one reference to it. A bundle that fails leaves everything as it was.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.acceptance import accept, claimed_signature, digest
from sidecar.bundle.coverage import PreparedCoverage, prepare_coverage
from sidecar.bundle.self_test import self_test
from sidecar.bundle.signature import SignedBy, Trust
from sidecar.bundle.values import Bundle
from sidecar.config import DEFAULT_LIMIT_ROWS, ModelPolicy, Outside, Probing, Unguarded
from sidecar.errors import BundleError, Reason
from sidecar.gates.prepare import PreparedGates, prepare
from sidecar.gates.values import Mode
from sidecar.protocols.torchserve.codec import PredictionCodec
from sidecar.proxy.torchserve_setup import prediction_codec, unfit
from sidecar.tensors import ModelSignature


@dataclasses.dataclass(frozen=True, eq=False)
class ActiveBundle:
    """A bundle ready to judge requests.

    Args:
        model_name: the served model that it guards.
        digest: SHA-256 of the bundle, lower-case hex.
        bundle: as accepted.
        gates, coverage: prepared for evaluation.
        property_ids, modes: one per gate; modes as in force.
        watched: bool (gate,); whether the gate is not off.
        policy: of the model that it guards.
        codec: how TorchServe's Predictions carry its rows; None where they do not.
        signed: whose signature was verified, and when it ends; None where there was none.
    """

    model_name: str
    digest: str
    bundle: Bundle
    gates: PreparedGates
    coverage: PreparedCoverage
    property_ids: tuple[str, ...]
    modes: tuple[Mode, ...]
    watched: npt.NDArray[np.bool_]
    policy: ModelPolicy
    codec: PredictionCodec | None = None
    signed: SignedBy | None = None

    @property
    def enforces(self) -> bool:
        """Whether anything can change what a client gets."""
        return Mode.ENFORCE in self.modes or self.policy.outside is Outside.REFUSE

    @property
    def signature(self) -> ModelSignature:
        """The tensors that are judged, as they are on the wire."""
        return self.bundle.manifest.signature if self.codec is None else self.codec.signature

    def is_proved(self, version: str) -> bool:
        """Whether what is proved is proved of a version of the model: where the bundle names none, of any."""
        versions = self.bundle.manifest.versions
        return not versions or version in versions

    @property
    def identity(self) -> tuple[str, str]:
        """The model that is guarded, and the digest."""
        return self.model_name, self.digest

    @property
    def revision(self) -> int:
        """The bundle's revision."""
        return self.bundle.manifest.revision


_ANYBODY: Final = Trust()


def _default_policy(_: str) -> ModelPolicy:
    return ModelPolicy()


def activate(
    content: bytes,
    model_name: str | None = None,
    mode: Mode | None = None,
    *,
    policy: Callable[[str], ModelPolicy] = _default_policy,
    modes: Mapping[str, Mode] = MappingProxyType({}),
    trust: Trust = _ANYBODY,
) -> ActiveBundle:
    """Make a bundle ready to judge requests.

    ``model_name`` and ``mode``, where not None, stand in for what the manifest says; ``modes``, of single properties
    by their ids, stand in for both. ``policy`` gives that of a model by its served name.

    Raises:
        BundleError: the bundle is not acceptable, nobody in ``trust`` vouches for it, our code does not reproduce its
            self-test vectors, there is a mode for a property that it does not have, or TorchServe's payloads cannot
            carry its tensors as the policy says.
    """
    bundle = accept(content, trust)
    found = _modes(bundle, mode, modes)
    guarded = model_name or bundle.manifest.name
    in_policy = policy(guarded)
    gates, codec = _as_served(bundle, in_policy, guarded)
    active = ActiveBundle(
        model_name=guarded,
        digest=digest(content),
        bundle=bundle,
        gates=gates,
        coverage=prepare_coverage(bundle.gates, bundle.coverage, bundle.manifest.signature),
        property_ids=tuple(gate.property_id for gate in bundle.gates),
        modes=found,
        watched=_watched(found),
        policy=in_policy,
        codec=codec,
        signed=claimed_signature(content),
    )
    self_test(bundle, gates if codec is None else prepare(bundle.gates, bundle.manifest.signature))
    return active


def in_force(active: ActiveBundle, mode: Mode | None, modes: Mapping[str, Mode], policy: ModelPolicy) -> ActiveBundle:
    """The same bundle under other settings, see :func:`activate`; the same value where nothing differs.

    Raises:
        BundleError: there is a mode for a property that it does not have; or see :func:`under`.
    """
    found, active = _modes(active.bundle, mode, modes), under(active, policy)
    return active if found == active.modes else dataclasses.replace(active, modes=found, watched=_watched(found))


def under(active: ActiveBundle, policy: ModelPolicy) -> ActiveBundle:
    """The same bundle, in its modes, under another policy; the same value where it is no other one.

    Raises:
        BundleError: TorchServe's payloads cannot carry its tensors as the policy says.
    """
    if policy == active.policy:
        return active
    if policy.torchserve == active.policy.torchserve:
        return dataclasses.replace(active, policy=policy)
    gates, codec = _as_served(active.bundle, policy, active.model_name)
    return dataclasses.replace(active, policy=policy, gates=gates, codec=codec)


def _watched(modes: Sequence[Mode]) -> npt.NDArray[np.bool_]:
    return np.array([each is not Mode.OFF for each in modes])


def _as_served(bundle: Bundle, policy: ModelPolicy, model_name: str) -> tuple[PreparedGates, PredictionCodec | None]:
    """The gates for outputs in the datatypes that clients read them as, and the codec of TorchServe's predictions."""
    codec = prediction_codec(policy.torchserve, bundle.manifest.signature, model_name)
    if codec is None:
        return prepare(bundle.gates, bundle.manifest.signature), None
    try:
        return prepare(bundle.gates, codec.signature), codec
    except ValueError as error:
        raise unfit(model_name, error) from error


def _modes(bundle: Bundle, mode: Mode | None, modes: Mapping[str, Mode]) -> tuple[Mode, ...]:
    records = {record.trace.property_id: record for record in bundle.manifest.properties}
    for property_id in modes:
        if property_id not in records:
            raise BundleError(
                Reason.BUNDLE_CONFLICT,
                f"there is a mode for property {property_id!r}, which the bundle does not have; it has "
                f"{', '.join(records)}; correct the name, or take the mode out of the settings",
            )
    return tuple(modes.get(name, mode or record.mode) for name, record in records.items())


@dataclasses.dataclass(frozen=True)
class ActiveModels:
    """All active bundles at one moment.

    Args:
        bundles: by served model name.
        limit_rows: the largest batch that is accepted.
        awaited: the sources that have not given any bundle yet.
        matched: model and digest of those bundles whose vectors the upstream answered as the verified model does, when
            it was last probed, and it has not been away since.
        failing: places whose bundle is not active, and may guard a model that no bundle guards.
        unguarded: what happens to requests for models without a bundle, where none is awaited.
        open_models: whose failure mode is open.
    """

    bundles: Mapping[str, ActiveBundle]
    limit_rows: int = DEFAULT_LIMIT_ROWS
    awaited: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    unguarded: Unguarded = Unguarded.DENY
    open_models: frozenset[str] = frozenset()
    matched: frozenset[tuple[str, str]] = frozenset()

    def withheld(self, bundle: ActiveBundle) -> bool:
        """Whether requests for a bundle's model have to wait until the upstream has matched it."""
        return bundle.policy.probe is Probing.REQUIRED and bundle.identity not in self.matched


def active_models(bundles: Iterable[ActiveBundle], limit_rows: int = DEFAULT_LIMIT_ROWS) -> ActiveModels:
    """The set of these bundles.

    Raises:
        BundleError: two guard the same model.
    """
    by_name: dict[str, ActiveBundle] = {}
    for bundle in bundles:
        other = by_name.setdefault(bundle.model_name, bundle)
        if other is not bundle:
            raise BundleError(
                Reason.BUNDLE_CONFLICT,
                f"two bundles guard model {bundle.model_name!r}: {other.digest[:12]} and {bundle.digest[:12]}; "
                "compile their properties into one bundle, or name the models with --bundle NAME=FILE",
            )
    return ActiveModels(MappingProxyType(by_name), limit_rows)


class Registry:
    """Holds the reference to the current set. Reading it is atomic; each change replaces it, one after the other.

    A transport that judges by itself holds a reference of its own: it is told of each change before anybody reads it.
    """

    def __init__(self, current: ActiveModels) -> None:
        self.current = current
        self._changing = threading.Lock()
        self._told: Callable[[ActiveModels], None] = lambda _: None

    def tell(self, told: Callable[[ActiveModels], None]) -> None:
        """Tell of the current set, and of each from now on, by whatever thread changes it; only one is told."""
        with self._changing:
            told(self.current)
            self._told = told

    def activate(self, models: ActiveModels) -> None:
        """Judge by these bundles from now on; what the upstream matched before still counts."""
        with self._changing:
            matched = {each.identity for each in models.bundles.values()} & self.current.matched
            self._replace(dataclasses.replace(models, matched=frozenset(matched)))

    def matched(self, bundle: ActiveBundle) -> None:
        """The upstream has matched a bundle, active or about to be."""
        with self._changing:
            self._set_matched(self.current.matched | {bundle.identity})

    def unmatched(self, bundle: ActiveBundle) -> None:
        """It has not, or it may be another one by now."""
        with self._changing:
            self._set_matched(self.current.matched - {bundle.identity})

    def _set_matched(self, matched: frozenset[tuple[str, str]]) -> None:
        if matched != self.current.matched:
            self._replace(dataclasses.replace(self.current, matched=matched))

    def _replace(self, models: ActiveModels) -> None:
        self._told(models)
        self.current = models
