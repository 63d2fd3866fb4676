"""What a coverage map costs: bytes, the time to label a row, the time to check it: `make bench-coverage`.

One process, one instance after the other (N2,9 takes minutes, most of them for its certificate); the best of several
rounds counts, since the machine is shared. A row alone is labelled in plain Python, many rows together in NumPy, and
natively in Rust. The native figure is what a row costs more under this map than under a map of one leaf, whole requests
judged both times; building the tables is left out by the difference between many rows and one.
"""

import dataclasses
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sidecar.bundle.array_codecs import encode_coverage
from sidecar.bundle.coverage import LEAF, CoverageTree, Label, label, label_row, prepare_coverage
from sidecar.certificate.check import check
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import CompiledBundle, compile_bundle
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Requirement
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties
from sidecar.protocols.generated import open_inference_pb2 as messages
from sidecar.proxy.active_bundle import ActiveBundle, activate
from sidecar.proxy.native_tables import bundle_tables
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

INSTANCES = ((1, 2, 2), (5, 7, 2), (2, 9, 8))
TIME_LIMIT_SECONDS = 60.0
ROWS, ROUNDS = 4096, 7
SIGNATURE = ModelSignature((TensorSpec("x", Datatype.FP32, (5,)),), (TensorSpec("y", Datatype.FP32, (5,)),), 0)
ONE_LEAF = CoverageTree(np.array([LEAF], np.int32), np.zeros(1), np.array([Label.OPEN], np.uint8), np.eye(4)[3])


def main() -> int:
    """Print one line per instance."""
    root = Path(__file__).resolve().parents[2]
    folder = (root / os.environ.get("GATE_DATA", "../shared/data")).resolve() / "acasxu"
    if not folder.is_dir():
        print(f"NOT RUN: no public data at GATE_DATA ({folder})", file=sys.stderr)
        return 1
    try:
        native: Any = importlib.import_module("gate_sidecar_native")
    except ImportError:
        native = None
        print("NOT RUN: labels in Rust; the native transport is not built (make native)", file=sys.stderr)
    print(f"{'':<14}{'':>10}{'':>12}{'':>8}{'':>8}{'us a row':>11}{'':>9}{'':>9}")
    print(
        f"{'instance':<14}{'nodes':>10}{'map bytes':>12}{'open':>8}{'check s':>8}{'alone':>11}{'of 4096':>9}{'Rust':>9}"
    )
    for row, column, number in INSTANCES:
        path = folder / f"ACASXU_run2a_{row}_{column}_batch_2000.onnx"
        model = read_model(path)
        files = [read_properties(folder / f"prop_{number}.vnnlib", model.signature)]
        compiled = compile_bundle(model, files, CompileOptions(time_limit_seconds=TIME_LIMIT_SECONDS), lambda _: None)
        ((tree,),) = compiled.bundle.coverage
        print(
            f"N{row},{column} prop_{number:<4}{len(tree.feature):>10,}{len(encode_coverage([[tree]])):>12,}"
            f"{tree.volume[Label.OPEN]:>8.3%}{_check_seconds(compiled, path):>8.1f}"
            + "".join(
                f"{1e6 * seconds:>{width}.2f}" for seconds, width in zip(_labelling(compiled), (11, 9), strict=True)
            )
            + (f"{1e6 * _native_seconds(native, compiled):>9.2f}" if native else f"{'-':>9}"),
            flush=True,
        )
    return 0


def _check_seconds(compiled: CompiledBundle, model: Path) -> float:
    began = time.monotonic()
    assert compiled.certificate is not None
    check(compiled.content, compiled.certificate, model, len(os.sched_getaffinity(0)), lambda *_: None)
    return time.monotonic() - began


def _points(compiled: CompiledBundle) -> np.ndarray:
    """Random points of the domain, FP32 in float64."""
    ((region,), *_) = [gate.domain for gate in compiled.bundle.gates]
    lower, upper = (np.array([float(bound) for bound in bounds]) for bounds in (region.box.lower, region.box.upper))
    points = lower + np.random.default_rng(0).random((ROWS, len(lower))) * (upper - lower)
    return points.astype(np.float32).astype(np.float64).clip(np.float32(lower), np.float32(upper))


def _labelling(compiled: CompiledBundle) -> tuple[float, float]:
    """Seconds a row: alone, and among many."""
    bundle, points = compiled.bundle, _points(compiled)
    prepared = prepare_coverage(bundle.gates, bundle.coverage, bundle.manifest.signature)
    rows = list(points)
    assert [label_row(prepared, 0, row) for row in rows] == label(prepared, 0, points).tolist()
    alone = _best(lambda: [label_row(prepared, 0, row) for row in rows])
    return alone / ROWS, _best(lambda: label(prepared, 0, points)) / ROWS


def _native_seconds(native: Any, compiled: CompiledBundle) -> float:
    """Seconds a row; see the head of the module."""
    points, active = _points(compiled).astype("<f4"), activate(compiled.content)

    def all_rows(tree: CoverageTree | None) -> float:
        tables = _tables(active, tree)
        return _judging(native, tables, points) - _judging(native, tables, points[:1])

    return (all_rows(None) - all_rows(ONE_LEAF)) / (ROWS - 1)


def _judging(native: Any, tables: dict[str, Any], points: np.ndarray) -> float:
    request, answer = _request(points), _answer(len(points))
    assert native.evaluate("m", tables, request, answer)[0] == "answered"
    return _best(lambda: native.evaluate("m", tables, request, answer))


def _tables(active: ActiveBundle, tree: CoverageTree | None) -> dict[str, Any]:
    """The bundle for the native evaluation, in batches, its gate content with every answer."""
    gates = tuple(dataclasses.replace(gate, requirement=Requirement(())) for gate in active.bundle.gates)
    manifest = dataclasses.replace(active.bundle.manifest, signature=SIGNATURE)
    coverage = active.bundle.coverage if tree is None else ((tree,),)
    return bundle_tables(
        dataclasses.replace(
            active,
            bundle=dataclasses.replace(active.bundle, manifest=manifest),
            gates=prepare(gates, SIGNATURE),
            coverage=prepare_coverage(gates, coverage, SIGNATURE),
        ),
        ROWS,
    )


def _request(points: np.ndarray) -> bytes:
    message = messages.ModelInferRequest(model_name="m", raw_input_contents=[points.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=points.shape)
    return message.SerializeToString()


def _answer(count: int) -> bytes:
    message = messages.ModelInferResponse(model_name="m", raw_output_contents=[bytes(20 * count)])
    message.outputs.add(name="y", datatype="FP32", shape=[count, 5])
    return message.SerializeToString()


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest round."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
