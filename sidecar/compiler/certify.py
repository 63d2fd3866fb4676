"""The certificate that goes with a bundle: hints found, then checked as an auditor would, before anything is sealed."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from sidecar.bundle.acceptance import digest
from sidecar.bundle.coverage import CoverageTree
from sidecar.bundle.values import Arithmetic, Bundle
from sidecar.certificate import codec
from sidecar.certificate.bounds import staged
from sidecar.certificate.check import establish
from sidecar.certificate.leaves import demand
from sidecar.certificate.processes import Processes
from sidecar.certificate.statements import answers_between
from sidecar.certificate.values import Certificate, LeafProofs
from sidecar.compiler.leaf_proofs import CARE, Proved, prove_leaves
from sidecar.compiler.meeting_proofs import prove_meeting
from sidecar.errors import NegativeAnswer
from sidecar.gates.values import Gate
from sidecar.network.dense import checkable
from sidecar.network.values import AnyModel, Model, Network
from sidecar.tensors import Rows


@dataclasses.dataclass(frozen=True)
class ProofStatus:
    """Progress of making or of checking a certificate.

    Args:
        what: which part, in words.
        done: boxes bounded. total: of how many; None where that is not known.
    """

    what: str
    done: int
    total: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Provable:
    """Coverage that the checker can prove.

    Args:
        coverage, proofs: per gate and region.
        notes: for the person who compiles; empty where the checker can prove all that the search did.
    """

    coverage: tuple[tuple[CoverageTree, ...], ...]
    proofs: tuple[tuple[LeafProofs, ...], ...]
    notes: tuple[str, ...]


def nothing_to_prove(coverage: Sequence[Sequence[CoverageTree]]) -> Provable:
    """Of an opaque model, whose leaves are all open."""
    none = LeafProofs(np.zeros(0, np.int32), np.zeros(0), np.zeros((0, 0), np.uint8), np.zeros(0, np.int32))
    trees = tuple(map(tuple, coverage))
    return Provable(trees, tuple(tuple(none for _ in of_gate) for of_gate in trees), ())


def provable(
    network: Network,
    arithmetic: Arithmetic,
    gates: Sequence[Gate],
    unmerged: Sequence[Sequence[CoverageTree]],
    workers: int,
    progress: Callable[[ProofStatus], None],
) -> Provable:
    """Hints for all silent and violating leaves; where there are none they become open.

    Args:
        network: of the model.
        arithmetic: declared.
        gates: of the bundle.
        unmerged: per gate and region, the tree as the search left it.
        workers: processes.
        progress: told how far it is.
    """
    coverage, proofs, notes = [], [], []
    with Processes(workers) as processes:
        for gate, trees in zip(gates, unmerged, strict=True):
            found = []
            for number, (region, tree) in enumerate(zip(gate.domain, trees, strict=True)):
                wanted = demand(gate.requirement, region, network)
                careful = staged(network, arithmetic, wanted.widest, CARE)
                report = _report(progress, f"{gate.property_id}, region {number}: hints for the checker")
                found.append(prove_leaves(careful, wanted, tree, region.box, processes, report))
                if found[-1].opened:
                    notes.append(_opened(gate, number, found[-1]))
            coverage.append(tuple(each.tree for each in found))
            proofs.append(tuple(each.proofs for each in found))
    return Provable(tuple(coverage), tuple(proofs), tuple(notes))


def _opened(gate: Gate, region: int, found: Proved) -> str:
    return (
        f"{gate.property_id}, region {region}: of {found.opened:,} leaves that the search settled a part is open"
        f" ({found.opened_volume:.2g} of the region's box), since the checker's own bounds do not prove it"
    )


def _report(progress: Callable[[ProofStatus], None], what: str) -> Callable[[int], None]:
    return lambda done: progress(ProofStatus(what, done, None))


def widened(network: Network, arithmetic: Arithmetic, inputs: Rows, lower: Rows, upper: Rows) -> tuple[Rows, Rows]:
    """Bounds of answers to input rows, made wide enough for the checker to establish them."""
    below, above = answers_between(staged(network, arithmetic, 1, CARE), inputs)
    known = np.isfinite(lower) & np.isfinite(below) & np.isfinite(above)
    return np.where(known, np.minimum(lower, below), -np.inf), np.where(known, np.maximum(upper, above), np.inf)


def certificate_of(
    content: bytes,
    bundle: Bundle,
    model: AnyModel,
    found: Provable,
    workers: int,
    progress: Callable[[ProofStatus], None],
) -> bytes:
    """The certificate's bytes, checked.

    Args:
        content: the bundle's bytes.
        bundle: what they say.
        model: that it is about.
        found: hints for its coverage.
        workers: processes that check.
        progress: told how far it is.

    Raises:
        NegativeAnswer: the check fails, so nothing may be sealed: which statement, and where.
    """
    certificate = codec.encode(
        Certificate(
            bundle_digest=digest(content),
            model_digest=model.digest,
            arithmetic=bundle.manifest.arithmetic,
            meeting=prove_meeting(bundle.gates, bundle.manifest.signature),
            leaves=found.proofs,
        )
    )
    network = checkable(model.network) if isinstance(model, Model) else None
    try:
        establish(
            content,
            certificate,
            model.digest,
            network,
            workers,
            lambda what, done, total: progress(ProofStatus(f"{what}: checking", done, total)),
        )
    except NegativeAnswer as error:
        raise NegativeAnswer(
            f"the checker does not accept the bundle: {error} (--no-certificate writes it without a certificate)"
        ) from error
    return certificate
