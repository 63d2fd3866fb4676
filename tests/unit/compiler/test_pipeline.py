"""Journey one on small hand-made networks: what is guarded, under which name, what is recorded."""

import dataclasses
import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sidecar.bundle.coverage import Label, label, prepare_coverage
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.progress import Progress
from sidecar.compiler.region_searches import SearchStatus
from sidecar.compiler.report import Reporter, summary
from sidecar.compiler.stated import served_name, with_batch_axis
from sidecar.errors import InputError, NegativeAnswer
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.values import Action, Box, Literal, Mode, Norm, Region, Requirement, terms
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Model
from sidecar.properties.values import Property, PropertyFile, Traceability

ONE = Fraction(1)


def _model(folder: Path, shape: list[int | str], scale: float = 1.0) -> Model:
    """``y = (scale * relu(x0), scale * relu(x1))``."""
    weight = numpy_helper.from_array(np.array([[scale, 0], [0, scale]], dtype=np.float32), "w")
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "scaled.onnx"
    )
    return read_model(folder / "scaled.onnx")


def _first_larger(name: str = "first-larger", cuts: tuple[Literal, ...] = ()) -> Property:
    """On ``[0, 1] x [0, 1]``: ``y0 > y1``; so the half ``x0 <= x1`` violates."""
    literal = Literal(terms({0: ONE, 1: -ONE}), (), Fraction(0), strict=True)
    box = Box((Fraction(0), Fraction(0)), (ONE, ONE))
    return Property(
        trace=Traceability(name),
        domain=(Region(box, cuts),),
        requirement=Requirement(((literal,),)),
        action=Action.PROJECT,
        margin=Fraction(0),
        norm=Norm.L2,
        mode=Mode.ENFORCE,
        fallback=None,
    )


def _file(*properties: Property, model_name: str | None = None, batch_axis: int | None = None) -> PropertyFile:
    return PropertyFile("p.yaml", b"properties: ...\n", model_name, batch_axis, properties)


OPTIONS = CompileOptions(time_limit_seconds=None, minimum_volume=1e-3, certify=False)  # the sources are stubs


def _ignore(_: SearchStatus) -> None:
    pass


def test_the_bundle_says_what_was_asked_for(tmp_path: Path) -> None:
    model = _model(tmp_path, ["batch", 2])
    options = dataclasses.replace(OPTIONS, name="served", revision=3)
    bundle = compile_bundle(model, [_file(_first_larger())], options, _ignore).bundle
    assert (bundle.manifest.name, bundle.manifest.revision) == ("served", 3)
    assert bundle.manifest.model_digest == model.digest
    assert bundle.sources[0].content == b"properties: ...\n"
    assert dict(bundle.manifest.options)["minimum-volume"] == "0.001"


def test_what_is_proved_is_what_the_network_does(tmp_path: Path) -> None:
    compiled = compile_bundle(_model(tmp_path, ["batch", 2]), [_file(_first_larger())], OPTIONS, _ignore)
    ((tree,),) = compiled.bundle.coverage
    assert tree.volume[Label.SILENT] == pytest.approx(0.5, abs=0.05)
    assert tree.volume[Label.VIOLATING] == pytest.approx(0.5, abs=0.05)


def test_a_declared_arithmetic_costs_coverage_and_widens_what_the_probe_allows(tmp_path: Path) -> None:
    model = _model(tmp_path, ["batch", 2], scale=0.7)
    silent, widths = [], []
    for arithmetic in (Arithmetic.IEEE32, Arithmetic.TF32, Arithmetic.BF16):
        options = dataclasses.replace(OPTIONS, arithmetic=arithmetic, minimum_volume=1e-4)
        bundle = compile_bundle(model, [_file(_first_larger())], options, _ignore).bundle
        assert bundle.manifest.arithmetic is arithmetic
        silent.append(float(bundle.coverage[0][0].volume[Label.SILENT]))
        widths.append(float((bundle.vectors.upper - bundle.vectors.lower).max()))
    assert silent[0] > silent[1] > silent[2] > 0.4
    assert widths[0] < widths[1] / 100 < widths[2] / 100


def test_an_arithmetic_about_other_tensors_is_refused(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, arithmetic=Arithmetic.IEEE64)
    with pytest.raises(InputError, match="ieee64 speaks about FP64 tensors; the model's are FP32"):
        compile_bundle(_model(tmp_path, ["batch", 2]), [_file(_first_larger())], options, _ignore)


def test_a_cut_takes_its_part_of_the_box_out_of_the_search(tmp_path: Path) -> None:
    in_the_good_half = Literal((), terms({0: ONE, 1: -ONE}), Fraction(-1, 8), strict=False)
    model = _model(tmp_path, ["batch", 2])
    compiled = compile_bundle(model, [_file(_first_larger(cuts=(in_the_good_half,)))], OPTIONS, _ignore)
    ((tree,),) = compiled.bundle.coverage
    assert tree.volume[Label.SILENT] == 1.0
    assert len(compiled.counterexamples[0]) == 0


def test_regions_that_their_cuts_part_are_not_silent_through_one_another(tmp_path: Path) -> None:
    far = Literal((), terms({0: ONE, 1: ONE}), Fraction(-3, 2), strict=False)
    near = Literal((), terms({0: -ONE, 1: -ONE}), Fraction(1, 2), strict=False)
    box = _first_larger().domain[0].box
    parted = dataclasses.replace(_first_larger(), domain=(Region(box, (far,)), Region(box, (near,))))
    bundle = compile_bundle(_model(tmp_path, ["batch", 2]), [_file(parted)], OPTIONS, _ignore).bundle
    prepared = prepare_coverage(bundle.gates, bundle.coverage, bundle.manifest.signature)
    rows = np.array([[0.0625, 0.375], [0.375, 0.0625], [0.625, 0.9375], [0.9375, 0.625]])
    assert label(prepared, 0, rows).tolist() == [Label.VIOLATING, Label.SILENT] * 2


def test_a_model_that_onnxruntime_cannot_run_is_refused(tmp_path: Path) -> None:
    model = dataclasses.replace(_model(tmp_path, ["batch", 2]), content=b"no model")
    with pytest.raises(InputError, match="onnxruntime cannot run 'scaled'") as caught:
        compile_bundle(model, [_file(_first_larger())], OPTIONS, _ignore)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_finite_answer_is_refused(tmp_path: Path) -> None:
    box = Box((Fraction(10), Fraction(10)), (Fraction(11), Fraction(11)))
    far = dataclasses.replace(_first_larger(), domain=(Region(box),))
    with pytest.raises(InputError, match="answers NaN or infinity to every input"):
        compile_bundle(_model(tmp_path, ["batch", 2], scale=3e38), [_file(far)], OPTIONS, _ignore)


def test_counterexamples_lie_in_the_domain_and_violate_exactly(tmp_path: Path) -> None:
    half_of_the_bad_half = Literal((), terms({1: ONE}), Fraction(-1, 2), strict=False)
    model = _model(tmp_path, ["batch", 2])
    compiled = compile_bundle(model, [_file(_first_larger(cuts=(half_of_the_bad_half,)))], OPTIONS, _ignore)
    (gate,) = compiled.bundle.gates
    (found,) = compiled.counterexamples
    assert len(found) > 0
    for x in found:
        assert region_contains(gate.domain[0], x)
        assert not requirement_holds(gate.requirement, x, np.maximum(x, 0.0))


def test_recorded_region_counts_reproduce_the_bytes(tmp_path: Path) -> None:
    model = _model(tmp_path, ["batch", 2])
    files = [_file(_first_larger("a"), _first_larger("b"))]
    limited = compile_bundle(model, files, dataclasses.replace(OPTIONS, max_regions=(5, 9)), _ignore)
    recorded = dict(limited.bundle.manifest.options)["max-regions"]
    assert recorded == "5,9"
    assert (
        limited.content
        == compile_bundle(model, files, dataclasses.replace(OPTIONS, max_regions=(5, 9)), _ignore).content
    )
    assert limited.content != compile_bundle(model, files, OPTIONS, _ignore).content


def test_region_counts_must_be_one_or_one_per_search(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, max_regions=(5, 5))
    with pytest.raises(InputError, match="lists 2 numbers, but there are 1 searches"):
        compile_bundle(_model(tmp_path, ["batch", 2]), [_file(_first_larger())], options, _ignore)


def test_answers_that_are_not_finite_are_no_vectors(tmp_path: Path) -> None:
    model = _model(tmp_path, ["batch", 2], scale=3e38)
    wide = dataclasses.replace(
        _first_larger(), domain=(Region(Box((Fraction(0), Fraction(0)), (Fraction(100), Fraction(100)))),)
    )
    bundle = compile_bundle(model, [_file(wide)], OPTIONS, _ignore).bundle
    assert np.isfinite(bundle.vectors.outputs).all()


def test_contradictions_stop_before_anything_is_searched(tmp_path: Path) -> None:
    other = dataclasses.replace(_first_larger("b"), requirement=Requirement(((_opposite(),),)))
    with pytest.raises(NegativeAnswer, match="contradict"):
        compile_bundle(_model(tmp_path, ["batch", 2]), [_file(_first_larger("a"), other)], OPTIONS, _never)


def _opposite() -> Literal:
    return Literal(terms({0: -ONE, 1: ONE}), (), Fraction(0), strict=True)


def _never(_: SearchStatus) -> None:
    raise AssertionError("a search was started")


def test_the_served_name_is_the_options_then_the_files_then_the_models(tmp_path: Path) -> None:
    model = _model(tmp_path, ["batch", 2])
    assert served_name(model, [_file(model_name="stated"), _file()], "given") == "given"
    assert served_name(model, [_file(model_name="stated"), _file()], None) == "stated"
    assert served_name(model, [_file()], None) == "scaled"
    with pytest.raises(InputError, match="one, two"):
        served_name(model, [_file(model_name="two"), _file(model_name="one")], None)


def test_a_declared_batch_axis_reads_a_static_first_dimension_of_one(tmp_path: Path) -> None:
    model = _model(tmp_path, [1, 2])
    assert model.network.signature.batch_axis is None
    assert with_batch_axis(model, [_file()]) is model
    batched = with_batch_axis(model, [_file(batch_axis=0)]).network.signature
    assert batched.batch_axis == 0
    assert batched.inputs[0].row_shape == (2,)
    bundle = compile_bundle(with_batch_axis(model, [_file(batch_axis=0)]), [_file(_first_larger())], OPTIONS, _ignore)
    assert len(bundle.bundle.vectors.inputs) > 10


def test_a_batch_axis_cannot_be_declared_for_a_static_larger_dimension(tmp_path: Path) -> None:
    model = _model(tmp_path, ["batch", 2])
    fixed = model.network.signature.with_batch_axis(None)
    static = dataclasses.replace(model, network=dataclasses.replace(model.network, signature=fixed))
    with pytest.raises(InputError, match="batch_axis 0"):
        with_batch_axis(static, [_file(batch_axis=0)])


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_not_in_a_pipe() -> None:
    status = SearchStatus("brake", 0, 1, 2, Progress(regions=1234, silent=0.5, violating=0.25, open=0.0, pending=7))
    terminal, pipe = _Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        with Reporter(stream) as reporter:
            reporter.show(status)
    assert "brake (1/2): 1,234 regions, 75.0% settled" in terminal.getvalue()
    assert pipe.getvalue() == ""


def test_the_summary_names_what_was_not_found_and_what_to_note(tmp_path: Path) -> None:
    model = _model(tmp_path, ["batch", 2])
    never = dataclasses.replace(
        _first_larger("never"), requirement=Requirement(((_opposite(),),)), action=Action.REFUSE
    )
    compiled = compile_bundle(model, [_file(_first_larger(), never)], OPTIONS, _ignore)
    text = summary(compiled, (), Path("scaled.onnx"), Path("b.gates"))
    assert "note: 'first-larger' and 'never' contradict each other" in " ".join(text.split())
    assert "b.gates: guards 'scaled'" in text
    assert text.endswith("sidecar serve --bundle b.gates --upstream HOST:PORT")
    assert max(map(len, text.splitlines())) <= 100
