"""``sidecar check``: everything that a bundle promises, one statement after the other, by nobody's word.

Trusted here are the bundle's and the properties' readers, the model's reader, exact arithmetic, and this room. The
compiler is not: nothing of it is imported.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sidecar.bundle.acceptance import accept_unverified, digest
from sidecar.bundle.coverage import Label
from sidecar.bundle.self_test import self_test
from sidecar.bundle.values import Bundle
from sidecar.certificate import codec, leaves, statements
from sidecar.certificate.bounds import staged
from sidecar.certificate.meeting import require_answers
from sidecar.certificate.processes import PORTION_BATCHES, Processes
from sidecar.certificate.values import Certificate
from sidecar.errors import BundleError, NegativeAnswer
from sidecar.gates.prepare import prepare
from sidecar.network.dense import checkable
from sidecar.network.onnx_reader import model_content, read_model
from sidecar.network.values import Network


@dataclasses.dataclass(frozen=True)
class Report:
    """What was established.

    Args:
        statements: in words, in the order in which they were.
        pieces: boxes that were bounded.
    """

    statements: tuple[str, ...]
    pieces: int


def check(
    content: bytes, certificate: bytes, model: Path, workers: int, progress: Callable[[str, int, int], None]
) -> Report:
    """Establish all of it, or say what is not so.

    Args:
        content: the bundle's bytes.
        certificate: its certificate's.
        model: the model's file.
        workers: processes.
        progress: told what is being proved, how many pieces of it are, and of how many.

    Raises:
        NegativeAnswer: a statement is not established; which, and where.
        BundleError: bundle or certificate are not readable.
        InputError: the model is not.
    """
    bundle = accept_unverified(content)
    read = read_model(model) if bundle.manifest.is_proved else None
    model_digest = hashlib.sha256(model_content(model)).hexdigest()
    network = None if read is None else checkable(read.network)
    if read is not None and network is None:
        raise NegativeAnswer(
            f"{model}: the checker follows dense layers, convolutions and ReLUs, one after the other and up to a size; "
            "of this model it can establish nothing"
        )
    return establish(content, certificate, model_digest, network, workers, progress)


def establish(
    content: bytes,
    certificate: bytes,
    model_digest: str,
    network: Network | None,
    workers: int,
    progress: Callable[[str, int, int], None],
) -> Report:
    """:func:`check`, with the model read: its file's digest, and its network, None where nothing was to be proved."""
    # 1. The bundle is one that a sidecar accepts: every rule on its form, its trees' cover of their boxes included.
    bundle = accept_unverified(content)
    said = codec.decode(certificate, [len(gate.domain) for gate in bundle.gates])
    # 2. Bundle, certificate and model file are about one another.
    statements.require_bound(said, bundle.manifest, digest(content), model_digest)
    # 3. The tensors are the model's, and the gates are the embedded properties'.
    signature = bundle.manifest.signature if network is None else network.signature
    files = statements.property_files(bundle, signature)
    statements.require_signature(bundle.manifest, signature, files)
    statements.require_properties(bundle, files)
    # 4. Where properties meet there is an answer for all of them, and fallbacks satisfy.
    require_answers(bundle.gates, bundle.manifest.signature, said.meeting)
    # 5. The self-test vectors are decided rightly.
    _require_decided(bundle)
    # 6. What is said of the model's answers is true: at the vectors, and on every silent and violating leaf.
    pieces = _nothing_claimed(bundle) if network is None else _proved(bundle, said, network, workers, progress)
    return Report(tuple(_statements(bundle, pieces)), pieces)


def _require_decided(bundle: Bundle) -> None:
    try:
        self_test(bundle, prepare(bundle.gates, bundle.manifest.signature))
    except BundleError as error:
        raise NegativeAnswer(error.message) from error


def _proved(
    bundle: Bundle, said: Certificate, network: Network, workers: int, progress: Callable[[str, int, int], None]
) -> int:
    statements.require_vectors(bundle, staged(network, bundle.manifest.arithmetic, 1))
    total = 0
    with Processes(workers) as processes:
        for gate, trees, proofs in zip(bundle.gates, bundle.coverage, said.leaves, strict=True):
            for number, (region, tree, proof) in enumerate(zip(gate.domain, trees, proofs, strict=True)):
                where = f"property {gate.property_id!r}, region {number}"
                wanted = leaves.demand(gate.requirement, region, network)
                try:
                    some = leaves.pieces(tree, region.box, wanted, proof)
                except ValueError as error:
                    raise NegativeAnswer(f"{where}: {error}; compile the bundle again") from error
                task = leaves.Task(staged(network, bundle.manifest.arithmetic, wanted.widest), wanted)
                _require_proved(task, some, where, processes, progress)
                total += len(some)
    return total


def _require_proved(
    task: leaves.Task,
    some: leaves.Pieces,
    where: str,
    processes: Processes,
    progress: Callable[[str, int, int], None],
) -> None:
    done, portions = 0, some.portions(task.network.batch * PORTION_BATCHES)
    for portion, proved in zip(portions, processes.map(task.proved, portions), strict=True):
        if not proved.all():
            raise NegativeAnswer(f"{where}, {leaves.described(portion, int(proved.argmin()))}")
        done += len(portion)
        progress(where, done, len(some))


def _nothing_claimed(bundle: Bundle) -> int:
    """Of a model that is not read nothing may be said."""
    open_everywhere = all((tree.label % Label.OPEN == 0).all() for trees in bundle.coverage for tree in trees)
    if not open_everywhere or np.isfinite(bundle.vectors.lower).any():
        raise NegativeAnswer("the bundle says that nothing is proved of its model, and then makes claims about it")
    return 0


def _statements(bundle: Bundle, pieces: int) -> Iterator[str]:
    counts = _leaves(bundle)
    yield "bundle, certificate and model file are about one another, by SHA-256"
    yield f"{len(bundle.gates)} gates are those of the property files in the bundle, domains widened to the wire"
    yield "the coverage trees leave nothing of the domains' boxes out"
    yield "wherever properties meet an answer satisfies all of them, and fallbacks satisfy what they can meet"
    yield f"{len(bundle.vectors.inputs)} self-test vectors are decided rightly and lie within their bounds"
    yield (
        f"{counts[Label.SILENT]:,} silent and {counts[Label.VIOLATING]:,} violating leaves are so, in real arithmetic "
        f"and in {bundle.manifest.arithmetic.words} ({pieces:,} boxes bounded); "
        f"{counts[Label.OPEN]:,} leaves claim nothing"
    )


def _leaves(bundle: Bundle) -> Sequence[int]:
    labels = np.concatenate([tree.label for trees in bundle.coverage for tree in trees])
    return [int(count) for count in np.bincount(labels, minlength=len(Label))]
