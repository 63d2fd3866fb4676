"""A small bundle with everything in it that a certificate speaks about, and ways to seal a changed one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sidecar.bundle.acceptance import accept, digest
from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import CoverageTree, Label
from sidecar.bundle.coverage_rules import leaf_volumes
from sidecar.bundle.values import Bundle
from sidecar.certificate import codec
from sidecar.certificate.check import Report, check
from sidecar.certificate.values import Certificate
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.stated import with_batch_axis
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties

PROPERTIES = """
model: {name: small, batch_axis: 0}
inputs:
  - tensor: x
    features: [{name: speed, range: [0, 1]}, {name: gap, range: [0, 1]}]
outputs:
  - tensor: y
    classes: [brake, hold, go]
    best: largest
properties:
  - id: brake-when-close
    when: speed >= 0.5 and speed + gap >= 0.75 and gap <= 0.75
    require: best in {brake, hold}
    action: fallback
    fallback: {brake: 1, hold: 0, go: 0}
  - id: never-far-out
    require: score(go) <= 0.6 or score(hold) >= 0.25
    margin: 0.001
  - id: brakes-harder-the-faster
    when: speed <= 0.75
    require: score(brake) - speed >= -0.5
  - id: go-when-far
    when: speed >= 0.875 and gap >= 0.875
    require: best == go
"""


SEED = 23


def write_model(path: Path, change: float = 0.0) -> Path:
    """A seeded network of two hidden layers, 2 to 3 values; ``change`` is added to one weight."""
    random = np.random.default_rng(SEED)
    sizes, nodes, constants, flow = (2, 8, 8, 3), [], [], "x"
    for number in range(3):
        weight = (random.standard_normal((sizes[number], sizes[number + 1])) * 0.7).astype(np.float32)
        weight[0, 0] += np.float32(change if number == 1 else 0.0)
        bias = (random.standard_normal(sizes[number + 1]) * 0.2).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{number}"), numpy_helper.from_array(bias, f"b{number}")]
        result = "y" if number == 2 else f"z{number}"
        nodes.append(helper.make_node("Gemm", [flow, f"w{number}", f"b{number}"], [result]))
        if number < 2:
            nodes.append(helper.make_node("Relu", [result], [f"h{number}"]))
        flow = f"h{number}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 2), ("y", 3))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@dataclasses.dataclass(frozen=True)
class Sealed:
    """A bundle and its certificate as values, and the model's file."""

    bundle: Bundle
    certificate: Certificate
    model: Path

    def checked(self, workers: int = 1) -> Report:
        """Seal with every digest computed anew, and check."""
        content = encode(self.bundle)
        certificate = dataclasses.replace(self.certificate, bundle_digest=digest(content))
        return check(content, codec.encode(certificate), self.model, workers, lambda *_: None)

    def with_bundle(self, **changes: object) -> "Sealed":
        return dataclasses.replace(self, bundle=dataclasses.replace(self.bundle, **changes))

    def with_gate(self, number: int, **changes: object) -> "Sealed":
        gates = list(self.bundle.gates)
        gates[number] = dataclasses.replace(gates[number], **changes)
        return self.with_bundle(gates=tuple(gates))

    def with_tree(self, gate: int, change: Callable[[CoverageTree], CoverageTree]) -> "Sealed":
        """The gate's first tree changed; the stated volumes follow."""
        coverage = [list(trees) for trees in self.bundle.coverage]
        tree = change(coverage[gate][0])
        volume = leaf_volumes(tree, self.bundle.gates[gate].domain[0].box)
        coverage[gate][0] = dataclasses.replace(tree, volume=volume)
        return self.with_bundle(coverage=tuple(map(tuple, coverage)))

    def with_vectors(self, **changes: object) -> "Sealed":
        return self.with_bundle(vectors=dataclasses.replace(self.bundle.vectors, **changes))

    def with_manifest(self, **changes: object) -> "Sealed":
        return self.with_bundle(manifest=dataclasses.replace(self.bundle.manifest, **changes))

    def with_certificate(self, **changes: object) -> "Sealed":
        return dataclasses.replace(self, certificate=dataclasses.replace(self.certificate, **changes))

    def with_proofs(self, gate: int, **changes: object) -> "Sealed":
        leaves = [list(proofs) for proofs in self.certificate.leaves]
        leaves[gate][0] = dataclasses.replace(leaves[gate][0], **changes)
        return self.with_certificate(leaves=tuple(map(tuple, leaves)))


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("sealed")
    model = read_model(write_model(folder / "small.onnx"))
    (folder / "p.yaml").write_text(PROPERTIES)
    files = [read_properties(folder / "p.yaml", model.signature)]
    options = CompileOptions(time_limit_seconds=None, minimum_volume=1e-3)
    compiled = compile_bundle(with_batch_axis(model, files), files, options, lambda _: None)
    assert compiled.certificate is not None
    bundle = accept(compiled.content)
    certificate = codec.decode(compiled.certificate, [len(gate.domain) for gate in bundle.gates])
    for label in (Label.SILENT, Label.VIOLATING, Label.OPEN):
        assert any((tree.label == label).any() for trees in bundle.coverage for tree in trees), label
    return Sealed(bundle, certificate, folder / "small.onnx")
